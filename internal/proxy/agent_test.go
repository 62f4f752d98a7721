package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/internal/proxy"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// tall is a ladder whose lowest rungs cost a tenth of its best.
func tall() []titletest.Rep {
	return []titletest.Rep{
		{ID: "v0", Kind: "video", Height: 240, Sizes: []int{10_000, 8_000}, Price: 300},
		{ID: "v1", Kind: "video", Height: 360, Sizes: []int{30_000, 20_000}, Price: 900},
		{ID: "v2", Kind: "video", Height: 480, Sizes: []int{60_000, 50_000}, Price: 2_000},
		{ID: "v3", Kind: "video", Height: 720, Sizes: []int{120_000, 90_000}, Price: 4_000},
		{ID: "a0", Kind: "audio", Sizes: []int{4_000}, Price: 100},
		{ID: "a1", Kind: "audio", Sizes: []int{16_000}, Price: 400},
	}
}

// A blind player knows nothing of prices: of what it is shown, ascending, it
// takes one for each segment.
type blind struct {
	name  string
	probe bool // takes the first segment of all, as ffmpeg does
	pick  func(shown, segment int) int
}

func blinds() []blind {
	r := rand.New(rand.NewPCG(1, 2))
	return []blind{
		{"always the best", false, func(shown, _ int) int { return shown - 1 }},
		{"looks at all, then the best", true, func(shown, _ int) int { return shown - 1 }},
		{"always the lowest", true, func(int, int) int { return 0 }},
		{"any", true, func(shown, _ int) int { return r.IntN(shown) }},
		{"to and fro", true, func(shown, i int) int { return i % 2 * (shown - 1) }},
		{"round and round", false, func(shown, i int) int { return i % shown }},
	}
}

// play plays the film as it is shown, and returns the paths that it asks for.
func (b blind) play(t *testing.T, mpd []byte, get func(path string)) {
	t.Helper()
	m, err := dash.Parse(mpd)
	check(t, err)
	type set struct{ period, set int }
	sets, order := map[set][]*dash.Representation{}, []set{}
	for _, r := range m.Representations() {
		k := set{r.Period, r.Set}
		if sets[k] == nil {
			order = append(order, k)
		}
		sets[k] = append(sets[k], r)
	}
	for period := range order[len(order)-1].period + 1 {
		var tracks [][]*dash.Representation
		for _, k := range order {
			if k.period == period {
				reps := sets[k]
				slices.SortFunc(reps, func(a, b *dash.Representation) int { return int(a.Bandwidth - b.Bandwidth) })
				tracks = append(tracks, reps)
			}
		}
		for _, reps := range tracks {
			for _, r := range reps {
				if b.probe && period == 0 {
					get(r.Segments[0].Path)
				}
			}
		}
		for i := range tracks[0][0].Segments {
			for _, reps := range tracks {
				get(reps[b.pick(len(reps), i)].Segments[i].Path)
			}
		}
	}
}

// Whatever a player does with what it is shown, the money lasts to the end.
func TestAPriceBlindPlayerReachesTheEnd(t *testing.T) {
	titles := map[string]titletest.Options{
		"single keys":     {Segments: 30, Reps: tall()},
		"groups":          {Segments: 30, Reps: tall(), Group: publish.Grouping{Length: 4 * time.Second}},
		"groups by size":  {Segments: 30, Reps: tall(), Group: publish.Grouping{Auto: true}},
		"several Periods": {Segments: 10, Periods: 3, Reps: tall(), Group: publish.Grouping{Length: 3 * time.Second}},
	}
	for name, options := range titles {
		title := titletest.Make(t, options)
		_, full := title.Manifest.PriceRange()
		for _, budget := range []lightning.Msat{full / 3, full / 5, full} {
			for _, player := range blinds() {
				t.Run(fmt.Sprintf("%s, %v, %s", name, budget, player.name), func(t *testing.T) {
					bubble(t, title, func(t *testing.T, h *house) {
						h.account.Budget = budget
						mpd := h.get("/t/film/manifest.mpd").Body.Bytes()
						player.play(t, mpd, func(path string) {
							w := h.get("/t/film/" + path)
							synctest.Wait()
							if w.Code != 200 && !t.Failed() {
								t.Errorf("%s: %d after %v of %v: %s", path, w.Code, h.account.Spent, budget, w.Body)
							}
						})
						if h.account.Spent > budget {
							t.Errorf("spent %v of %v", h.account.Spent, budget)
						}
						if budget >= full/3 && !strings.Contains(string(mpd), `id="v1"`) {
							t.Error("the menu has nothing but the lowest")
						}
					})
				})
			}
		}
	}
}

func TestTheMenuIsInOrder(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 30, Reps: tall()})
	for _, test := range []struct {
		line int // bit/s
		want string
	}{
		{0, "v2 v1 v0 a1 a0"},
		{20_000_000, "v2 v1 v0 a1 a0"},
		{400_000, "v1 v0 v2 a1 a0"},
	} {
		bubble(t, title, func(t *testing.T, h *house) {
			h.account.Budget = 30 * 2_700
			if test.line > 0 {
				h.get("/t/film/v3/30.m4s")
				synctest.Wait()
			}
			h.account.Spent = 0
			m, err := dash.Parse(h.get("/t/film/manifest.mpd").Body.Bytes())
			check(t, err)
			var ids []string
			for _, r := range m.Representations() {
				ids = append(ids, r.ID)
			}
			want(t, fmt.Sprintf("at %d bit/s", test.line), strings.Join(ids, " "), test.want)
		}, func(c *proxy.Config, s *spender) { s.line = test.line })
	}
}

// dim is a film of which every other shot is dark: better rungs cost as much
// there, and gain next to nothing.
func dim() titletest.Options {
	reps := []titletest.Rep{{ID: "a0", Kind: "audio", Sizes: []int{4_000}, Price: 100}}
	for i, bright := range []htlcdash.Decibel{900, 1200, 1500, 1800} {
		reps = append(reps, titletest.Rep{
			ID: fmt.Sprintf("v%d", i), Kind: "video", Height: 240 + 120*i, Sizes: []int{20_000 * (1 + 2*i)}, Price: lightning.Msat(500 + 1000*i),
			Quality: []htlcdash.Decibel{bright, bright, bright, 1600 + 5*htlcdash.Decibel(i), 1600 + 5*htlcdash.Decibel(i), 1600 + 5*htlcdash.Decibel(i)},
		})
	}
	return titletest.Options{Segments: 36, Reps: reps}
}

// A player that follows the agent gets more for the same money than one that
// keeps to the best rung which the money carries all the time.
func TestFollowingTheAgentIsWorthIt(t *testing.T) {
	title := titletest.Make(t, dim())
	_, full := title.Manifest.PriceRange()
	const segments = 36
	quality := func(played []string) (sum htlcdash.Decibel) {
		for i, rep := range played {
			sum += title.Segments(t, rep)[i].Quality
		}
		return sum
	}
	bubble(t, title, func(t *testing.T, h *house) {
		h.account.Budget = full / 2
		h.get("/t/film/manifest.mpd?all=1")
		synctest.Wait()
		var played []string
		for i := range segments {
			reps := map[string]string{}
			for _, c := range h.state(t).Agent.Coming {
				if at := int64(i*1000 + 100); c.Start <= at && at < c.End {
					reps[c.Kind] = c.Rep
				}
			}
			for _, kind := range []string{"video", "audio"} {
				w := h.get(fmt.Sprintf("/t/film/%s/%d.m4s", reps[kind], i+1) + said(fmt.Sprintf(`bl=%d,sid="s"`, 10_000)))
				if w.Code != 200 {
					t.Fatalf("%s of segment %d: %d", reps[kind], i, w.Code)
				}
			}
			played = append(played, reps["video"])
			time.Sleep(time.Second)
		}
		capped := slices.Repeat([]string{"v1"}, segments) // the best that half the money carries
		if got, static := quality(played), quality(capped); got < static+2000 {
			t.Errorf("the agent got %d, the cap alone %d hundredths of a decibel: %v", got, static, played)
		}
		for i, rep := range played[2:30] {
			if (i+2)/3%2 == 1 && rep > "v1" {
				t.Errorf("dark segment %d was bought as %s", i+2, rep)
			}
		}
		s := h.state(t)
		if s.Spent > full/2 || s.Unplayed > full/20 {
			t.Errorf("spent %v of %v, %v of it for nothing", s.Spent, full/2, s.Unplayed)
		}
	}, func(c *proxy.Config, s *spender) { s.line = 20_000_000 })
}

type drawer map[string]string

func (d drawer) Setting(_ context.Context, name string) (string, error) {
	if v, ok := d[name]; ok {
		return v, nil
	}
	return "", htlcdash.ErrNotFound
}

func (d drawer) Set(_ context.Context, name, value string) error {
	if d["broken"] != "" {
		return errors.New(d["broken"])
	}
	d[name] = value
	return nil
}

func TestPreferencesAreChangedLive(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 30, Reps: tall()})
	settings := drawer{}
	kept := func(c *proxy.Config, s *spender) { c.Settings = settings }
	shown := func(h *house) string {
		var ids []string
		mpd := h.get("/t/film/manifest.mpd").Body.String()
		for _, id := range []string{"v0", "v1", "v2", "v3"} {
			if strings.Contains(mpd, `id="`+id+`"`) {
				ids = append(ids, id)
			}
		}
		return strings.Join(ids, " ")
	}
	bubble(t, title, func(t *testing.T, h *house) {
		h.account.Budget = 30 * 2_700
		want(t, "at first", shown(h), "v0 v1 v2")
		want(t, "change", h.post("/api/preferences", `{"title":"film","profile":"film","min_height":360}`).Code, 200)
		want(t, "never below 360", shown(h), "v1 v2")
		want(t, "told", h.state(t).Agent.Wish.MinHeight, 360)
		h.post("/api/preferences", `{"title":"film","min_height":720}`)
		want(t, "what the money does not carry gives way", shown(h), "v0 v1 v2")
		h.post("/api/preferences", `{"title":"film","profile":"data-saver","max_height":360}`)
		want(t, "never above 360", shown(h), "v0 v1")
		for _, name := range agent.Profiles() {
			want(t, name, h.post("/api/preferences", fmt.Sprintf(`{"title":"film","profile":%q}`, name)).Code, 200)
			want(t, "sound only: "+name, h.state(t).Agent.Sound, name == "podcast")
			want(t, "the picture: "+name, shown(h) == "", name == "podcast")
		}
		h.post("/api/preferences", `{"title":"film","profile":"data-saver","max_height":360}`)
		for body, status := range map[string]int{
			`{"title":"film","profile":"x"}`:                     400,
			`{"title":"film","min_height":-1}`:                   400,
			`{"title":"film","min_height":720,"max_height":240}`: 400,
			`{"title":"film","stall":-1}`:                        400,
			`{"title":"film","sound":1e9}`:                       400,
			`{"title":"film","colour":1}`:                        400,
			`{"title":"x"}`:                                      404,
		} {
			want(t, body, h.post("/api/preferences", body).Code, status)
		}
		want(t, "from another page", h.do(request("POST", "/api/preferences")).Code, 403)
		settings["broken"] = "disk full"
		want(t, "not kept", h.post("/api/preferences", `{"title":"film","max_height":360}`).Code, 500)
	}, kept)
	bubble(t, title, func(t *testing.T, h *house) {
		want(t, "in a later run", h.state(t).Agent.Wish, proxy.Wish{Profile: "data-saver", MaxHeight: 360})
	}, kept)
	settings["wish/"+title.ID.String()] = `{"profile":"x"}`
	bubble(t, title, func(t *testing.T, h *house) {
		want(t, "when it makes no sense", h.state(t).Agent.Wish, proxy.Wish{})
	}, kept)
}

func TestWhyIsTold(t *testing.T) {
	title := titletest.Make(t, dim())
	bubble(t, title, func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd?all=1")
		synctest.Wait()
		for _, test := range []struct {
			name    string
			played  string // last
			budget  lightning.Msat
			reasons string
		}{
			{"nothing is in the way", "v3/2", 1_000_000, "best"},
			{"no money", "", 36 * 600, "money"},
			{"some money, a dark shot", "v1/3", 36 * 2000, "price"},
		} {
			h.account.Budget, h.account.Spent = test.budget, 0
			if test.played != "" {
				h.get("/t/film/" + test.played + ".m4s")
				synctest.Wait()
				h.account.Spent = 0
			}
			w := h.state(t).Agent.Why
			want(t, test.name, w.Reason, test.reasons)
			if w.Reason != "best" && (w.Better == "" || w.More <= 0) {
				t.Errorf("%s: %+v", test.name, w)
			}
		}
	}, func(c *proxy.Config, s *spender) { s.line = 20_000_000; c.NoEarlyBuy, c.Ahead.Segments = true, -1 })
}

// A browser's player that asks for more than the money carries gets less, and
// the film goes on.
func TestABrowserGetsWhatTheMoneyCarries(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 20, Reps: tall()})
	const browser = "User-Agent: Mozilla/5.0"
	const page = "Sec-Fetch-Site: same-origin"
	body := func(w *httptest.ResponseRecorder) string {
		for _, rep := range []string{"v0", "v1", "v2", "v3"} {
			for i := range 20 {
				head := h(title, rep)
				plain := title.Plain(rep, i)
				switch {
				case bytes.Equal(w.Body.Bytes(), plain):
					return fmt.Sprintf("%s/%d", rep, i)
				case bytes.Equal(w.Body.Bytes(), append(slices.Clone(head), plain...)):
					return fmt.Sprintf("init %s/%d", rep, i)
				}
			}
		}
		return fmt.Sprintf("%d", w.Code)
	}
	bubble(t, title, func(t *testing.T, h *house) {
		get := func(path, wanted string) {
			t.Helper()
			w := h.get("/t/film/"+path, browser, page)
			synctest.Wait()
			want(t, path, body(w), wanted)
		}
		h.account.Budget = 1_000_000
		h.get("/t/film/manifest.mpd")
		get("v3/1.m4s", "v3/0")
		get("v3/2.m4s", "v3/1")
		h.account.Budget = h.account.Spent + 18*400 + 700
		get("v3/3.m4s", "init v1/2")
		get("v3/4.m4s", "init v0/3")
		get("v3/2.m4s", "init v3/1") // its own init segment, since the player has another
		h.account.Budget += 100_000
		get("v3/5.m4s", "init v3/4")
		h.account.Budget = h.account.Spent + 14*400
		want(t, "a player that cannot take that", body(h.get("/t/film/v3/6.m4s")), "v3/5")
	}, noAhead)
}

func h(title *titletest.Title, rep string) []byte {
	head, err := title.Init(context.Background(), rep)
	if err != nil {
		panic(err)
	}
	return head
}

// A later run begins better, because it knows how fast the network was.
func TestTheNetworkIsRemembered(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 30, Reps: tall()})
	settings := drawer{}
	kept := func(c *proxy.Config, s *spender) { c.Settings, c.NoEarlyBuy, s.line = settings, true, 50_000_000 }
	first := func(h *house) (rep string) {
		h.get("/t/film/manifest.mpd?all=1")
		synctest.Wait()
		for _, c := range h.state(t).Agent.Coming {
			if c.Kind == "video" {
				return c.Rep
			}
		}
		return ""
	}
	bubble(t, title, func(t *testing.T, h *house) {
		want(t, "of a network that nobody knows", first(h), "v0")
		for i := range 6 {
			h.get(fmt.Sprintf("/t/film/v2/%d.m4s", i+1))
		}
	}, kept)
	m, err := proxy.Recall(t.Context(), settings)
	if err != nil || m.Rate < 20e6 || m.Rate > 60e6 || m.At.IsZero() {
		t.Errorf("kept %v (%v), want about 50 Mbit/s", m, err)
	}
	bubble(t, title, func(t *testing.T, h *house) {
		if got := first(h); got <= "v0" {
			t.Errorf("of a fast one the first is %q", got)
		}
	}, kept)
	settings["network/memory"] = "fast"
	bubble(t, title, func(t *testing.T, h *house) {
		want(t, "of what makes no sense", first(h), "v0")
	}, kept)
}

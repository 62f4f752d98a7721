package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/internal/proxy"
	"htlcdash/internal/title/titletest"
)

func TestWhatIsBoughtAhead(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 12})
	type step struct {
		ask  string // path within the title, with a query
		want string // bought by then, since the step before
	}
	tests := []struct {
		name  string
		ahead proxy.Ahead
		steps []step
	}{
		{"a player that goes on", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"}, // it may be a probe
			{"v0/2.m4s", "[v0/1 v0/2 v0/3]"},
			{"v0/3.m4s", "[v0/4]"},
			{"v0/4.m4s", "[v0/5]"},
		}},
		{"one that names its next object", proxy.Ahead{}, []step{
			{"v0/1.m4s" + said(`nor="2.m4s",sid="s"`), "[v0/0 v0/1]"},
			{"v0/2.m4s" + said(`nor="3.m4s",sid="s"`), "[v0/2 v0/3]"},
		}},
		{"one that names an object of another quality", proxy.Ahead{}, []step{
			{"v0/1.m4s" + said(`nor="../v1/2.m4s",sid="s"`), "[v0/0 v1/1]"},
		}},
		{"one that names nonsense", proxy.Ahead{}, []step{
			{"v0/1.m4s" + said(`nor="../../../etc/passwd",sid="s"`), "[v0/0]"},
			{"v0/5.m4s" + said(`nor="http://example.org/2.m4s",sid="s"`), "[v0/4]"},
			{"v0/9.m4s" + said(`nor="init.mp4",sid="s"`), "[v0/8]"},
		}},
		{"one with a full buffer", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s" + said("bl=12000"), "[v0/1 v0/2]"},
			{"v0/3.m4s" + said("bl=12000"), "[v0/3]"},
		}},
		{"one that changes quality", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s", "[v0/1 v0/2 v0/3]"},
			{"v1/3.m4s", "[v1/2 v1/3]"}, // one ahead until it is steady
			{"v1/4.m4s", "[v1/4 v1/5]"},
		}},
		{"one that probes every quality, as ffmpeg does", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v1/1.m4s", "[v1/0]"},
			{"a0/1.m4s", "[a0/0]"},
		}},
		{"one that jumps", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s", "[v0/1 v0/2 v0/3]"},
			{"v0/9.m4s", "[v0/8]"},
			{"v0/10.m4s", "[v0/10 v0/11 v0/9]"},
		}},
		{"picture and sound", proxy.Ahead{}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"a0/1.m4s", "[a0/0]"},
			{"v0/2.m4s", "[v0/1 v0/2 v0/3]"},
			{"a0/2.m4s", "[a0/1 a0/2 a0/3]"},
		}},
		{"two players", proxy.Ahead{}, []step{
			{"v0/1.m4s" + said(`sid="a"`), "[v0/0]"},
			{"v0/6.m4s" + said(`sid="b"`), "[v0/5]"},
			{"v0/2.m4s" + said(`sid="a"`), "[v0/1 v0/2 v0/3]"},
			{"v0/7.m4s" + said(`sid="b"`), "[v0/6 v0/7 v0/8]"},
		}},
		{"the end", proxy.Ahead{}, []step{
			{"v0/11.m4s", "[v0/10]"},
			{"v0/12.m4s", "[v0/11]"},
		}},
		{"none ahead", proxy.Ahead{Segments: -1}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s", "[v0/1]"},
			{"v0/3.m4s", "[v0/2]"},
		}},
		{"a limit in seconds", proxy.Ahead{Segments: 5, Time: 3 * time.Second}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s", "[v0/1 v0/2 v0/3 v0/4]"},
			{"v0/3.m4s", "[v0/5]"},
		}},
		{"a limit in money", proxy.Ahead{Segments: 5, Money: 2500}, []step{
			{"v0/1.m4s", "[v0/0]"},
			{"v0/2.m4s", "[v0/1 v0/2 v0/3]"}, // 1 sat each
			{"v0/3.m4s", "[v0/4]"},           // one was asked for, so there is room for one
			{"v1/4.m4s", "[v1/3]"},           // 3 sat each: none fits
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.get("/t/film/manifest.mpd") // the prices
				synctest.Wait()
				for _, s := range test.steps {
					want(t, s.ask, h.get("/t/film/"+s.ask).Code, 200)
					synctest.Wait()
					want(t, "bought after "+s.ask, fmt.Sprint(h.take()), s.want)
				}
				time.Sleep(time.Hour)
				want(t, "bought for a player that has gone", fmt.Sprint(h.take()), "[]")
			}, func(c *proxy.Config, s *spender) { c.Ahead = test.ahead })
		})
	}
}

// What comes from the shelf at once would tell a player that a slow network is
// fast.
func TestNothingIsBoughtAheadOnASlowNetwork(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 12}) // the best rung has 720 kbit/s
	for _, test := range []struct {
		line         int // bit/s
		quick, ahead bool
	}{
		{0, false, true}, // not known yet
		{800_000, false, false},
		{1_000_000, false, false},
		{1_200_000, true, true},
		{20_000_000, true, true},
	} {
		t.Run(fmt.Sprint(test.line), func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.get("/t/film/v0/1.m4s")
				h.get("/t/film/a0/1.m4s") // too small to tell
				h.get("/t/film/v0/2.m4s")
				synctest.Wait()
				s := h.state(t)
				want(t, "measured", s.Network >= int64(test.line)*99/100 && s.Network < int64(test.line)*101/100+1, true)
				want(t, "quick", s.Quick, test.quick)
				h.take()
				h.get("/t/film/v0/9.m4s")
				h.get("/t/film/v0/10.m4s")
				synctest.Wait()
				want(t, "bought ahead", len(h.take()) > 2, test.ahead)
			}, func(c *proxy.Config, s *spender) { s.line = test.line })
		})
	}
}

// When a player asks, the offer is there. Sealed bytes and proofs do not come
// ahead, but for the first segment.
func TestOffersAreThereBeforeAPlayerAsks(t *testing.T) {
	const segments = 40
	title := titletest.Make(t, titletest.Options{Segments: segments})
	for _, line := range []int{0, 800_000} { // bit/s; on the second nothing is bought ahead
		t.Run(fmt.Sprint(line), func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.get("/t/film/manifest.mpd?all=1")
				synctest.Wait()
				rep, bought := "v1", h.take()
				if slices.Contains(bought, "v0/0") {
					rep = "v0" // the agent had read the prices before the start was laid out
				}
				for i := range segments {
					if name := fmt.Sprintf("%s/%d", rep, i); !slices.Contains(slices.Concat(bought, h.offers, h.ready), name) {
						t.Errorf("no offer for %s when it is asked for", name)
					}
					h.get(fmt.Sprintf("/t/film/%s/%d.m4s", rep, i+1))
					synctest.Wait()
				}
				slices.Sort(h.ready)
				want(t, "offers proved ahead", fmt.Sprint(h.ready), "[a0/0 v1/0]")
				slices.Sort(h.got)
				want(t, "sealed bytes fetched ahead", fmt.Sprint(h.got), "[a0/0 v1/0]")
				offers := slices.DeleteFunc(slices.Clone(h.offers), func(s string) bool { return s == "|" })
				if requests := len(h.offers) - len(offers); requests > segments/4+1 {
					t.Errorf("%d requests for offers, want one for several segments", requests)
				}
				slices.Sort(offers)
				want(t, "offers, each asked for once", len(slices.Compact(offers)), len(offers))
			}, func(c *proxy.Config, s *spender) { s.line = line })
		})
	}
}

// Who takes one segment of each quality means to play one of them.
func TestNoOffersForProbes(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{Segments: 12}), func(t *testing.T, h *house) {
		for _, name := range []string{"v0/1", "v1/1", "a0/1"} {
			h.get("/t/film/" + name + ".m4s")
		}
		synctest.Wait()
		want(t, "offers", fmt.Sprint(h.offers), "[]")
	})
}

func TestOurPageStartsOnOnePayment(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 12})
	slow := func(c *proxy.Config, s *spender) { s.delay, s.line = time.Second, 20_000_000 }
	bubble(t, title, func(t *testing.T, h *house) {
		began := time.Now()
		h.get("/t/film/manifest.mpd?all=1")
		synctest.Wait()
		laid := h.take() // v0 if the agent knows the prices already: it is careful
		if got := fmt.Sprint(laid); got != "[a0/0 v1/0]" && got != "[a0/0 v0/0]" {
			t.Errorf("laid out: %v", got)
		}
		var player sync.WaitGroup
		player.Go(func() { h.get("/t/film/" + laid[1][:2] + "/1.m4s") })
		player.Go(func() { h.get("/t/film/a0/1.m4s") })
		synctest.Wait()
		want(t, "beside the start", fmt.Sprint(h.take()), "[]")
		player.Wait()
		want(t, "waited for one payment", time.Since(began), time.Second)
		synctest.Wait()
		after := fmt.Sprint(h.take())
		want(t, "after the start", strings.ReplaceAll(after, "v1", "v0"), "[a0/1 a0/2 v0/1 v0/2]") // on which rungs, the agent knows
	}, slow)
	bubble(t, title, func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd?all=1&t=7.5")
		synctest.Wait()
		laid := h.take() // v0 if the agent knows the prices already: it is careful
		if got := fmt.Sprint(laid); got != "[a0/7 v1/7]" && got != "[a0/7 v0/7]" {
			t.Errorf("laid out further on: %v", got)
		}
	}, slow)
	bubble(t, title, func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd?all=1")
		h.do(request("HEAD", "/t/film/manifest.mpd?all=1"))
		synctest.Wait()
		want(t, "laid out for the cautious", fmt.Sprint(h.take()), "[]")
	}, slow, func(c *proxy.Config, s *spender) { c.NoEarlyBuy = true })
}

func TestWhatWasBoughtAndNotPlayed(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 12})
	bubble(t, title, func(t *testing.T, h *house) {
		get := func(path string, unplayed, ahead int) {
			t.Helper()
			want(t, path, h.get("/t/film/"+path).Code, 200)
			synctest.Wait()
			s := h.state(t)
			want(t, "unplayed msat after "+path, int(s.Unplayed), unplayed)
			want(t, "of it ahead after "+path, int(s.Ahead), ahead)
		}
		h.get("/t/film/manifest.mpd")
		synctest.Wait()
		get("v0/1.m4s", 0, 0)
		get("v0/2.m4s", 2000, 2000) // 3 and 4 are there
		get("v0/1.m4s", 2000, 2000) // again, from the shelf
		get("v1/3.m4s", 2000, 1000) // instead of 3 of v0, which never reaches the player
		get("v1/2.m4s", 3000, 1000) // replaces 2 of v0
		want(t, "segments", h.state(t).UnplayedSegments, 3)
		want(t, "bought", h.state(t).Bought, 6)

		h.get("/t/film/manifest.mpd") // another viewing
		get("v0/2.m4s", 2000, 1000)   // is played after all, and 2 of v1 was
	})
}

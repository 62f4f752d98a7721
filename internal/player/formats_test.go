package player_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/internal/plain"
	"htlcdash/internal/player"
	"htlcdash/internal/title"
)

// pieces are the files of a title without media: each segment says what it is.
type pieces map[string][]byte

func says(rep string, i int) string { return fmt.Sprintf("%s/%d ", rep, i) }

// segments puts n segments of a Representation into files that name gives.
func (p pieces) segments(rep string, n int, name func(i int) string) {
	p[rep+"-init"] = []byte(rep + "/init ")
	for i := range n {
		p[name(i)] = []byte(says(rep, i))
	}
}

// single puts them into one file, behind a head and, if wanted, a sidx box, and
// returns the ranges of all.
func (p pieces) single(rep string, n int, index bool) (head, sidx string, ranges []string) {
	file := []byte(rep + "/init ")
	head = fmt.Sprintf("0-%d", len(file)-1)
	if index {
		box := sidxOf(rep, n)
		sidx = fmt.Sprintf("%d-%d", len(file), len(file)+len(box)-1)
		file = append(file, box...)
	}
	for i := range n {
		ranges = append(ranges, fmt.Sprintf("%d-%d", len(file), len(file)+len(says(rep, i))-1))
		file = append(file, says(rep, i)...)
	}
	p[rep+".mp4"] = file
	return head, sidx, ranges
}

// sidxOf is the index of segments of two seconds (ISO/IEC 14496-12, 8.16.3).
func sidxOf(rep string, n int) []byte {
	b := []byte("....sidx\x00\x00\x00\x00")
	for _, v := range []uint32{1, 1000, 0, 0, uint32(n)} { // id, timescale, time, offset, references
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for i := range n {
		for _, v := range []uint32{uint32(len(says(rep, i))), 2000, 0x90000000} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func mpd(periods ...string) string {
	return `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011">` + strings.Join(periods, "") + `</MPD>`
}

func period(seconds int, sets ...string) string {
	return fmt.Sprintf(`<Period duration="PT%dS">%s</Period>`, seconds, strings.Join(sets, ""))
}

func set(kind, lang string, reps ...string) string {
	if lang != "" {
		lang = fmt.Sprintf(" lang=%q", lang)
	}
	return fmt.Sprintf(`<AdaptationSet contentType="%s" mimeType="%s/mp4"%s>%s</AdaptationSet>`, kind, kind, lang, strings.Join(reps, ""))
}

func rep(id string, bandwidth int, how string) string {
	return fmt.Sprintf(`<Representation id="%s" bandwidth="%d">%s</Representation>`, id, bandwidth, how)
}

// recorder writes down what a sink is given.
type recorder struct {
	tracks [4]bytes.Buffer
	inits  [4]string
}

func (*recorder) Close() error { return nil }

func (r *recorder) Segment(track int, _ *dash.Representation, _ int, init, data []byte) error {
	r.tracks[track].Write(data)
	r.inits[track] = string(init)
	return nil
}

// However an MPD says where its segments are, all of them come, in their order.
func TestFormats(t *testing.T) {
	all := func(n int, reps ...string) (s string) {
		for _, rep := range reps {
			for i := range n {
				s += says(rep, i)
			}
		}
		return s
	}
	byNumber := `<SegmentTemplate timescale="1" duration="2" startNumber="1" initialization="$RepresentationID$-init" media="$RepresentationID$-$Number%03d$"/>`
	for _, tt := range []struct {
		name string
		lang string
		make func(pieces) string
		want []string // by track
	}{
		{"SegmentTemplate by number", "", func(p pieces) string {
			for _, id := range []string{"v", "a"} {
				p.segments(id, 5, func(i int) string { return fmt.Sprintf("%s-%03d", id, i+1) })
			}
			return mpd(period(10, set("video", "", rep("v", 1000, byNumber)), set("audio", "", rep("a", 1000, byNumber))))
		}, []string{all(5, "v"), all(5, "a")}},
		{"SegmentTimeline by time", "", func(p pieces) string {
			p.segments("v", 5, func(i int) string { return fmt.Sprintf("v-%d", i*2000) })
			return mpd(period(10, set("video", "", rep("v", 1000, `<SegmentTemplate timescale="1000" initialization="v-init" media="v-$Time$"><SegmentTimeline><S t="0" d="2000" r="4"/></SegmentTimeline></SegmentTemplate>`))))
		}, []string{all(5, "v")}},
		{"SegmentTimeline by number, of uneven segments", "", func(p pieces) string {
			p.segments("v", 4, func(i int) string { return fmt.Sprintf("v-%d", i+7) })
			return mpd(period(10, set("video", "", rep("v", 1000, `<SegmentTemplate timescale="10" startNumber="7" initialization="v-init" media="v-$Number$"><SegmentTimeline><S t="0" d="15"/><S d="40"/><S d="25"/><S d="20"/></SegmentTimeline></SegmentTemplate>`))))
		}, []string{all(4, "v")}},
		{"SegmentList of files", "", func(p pieces) string {
			p.segments("v", 3, func(i int) string { return fmt.Sprintf("list-%c", 'a'+i) })
			return mpd(period(6, set("video", "", rep("v", 1000, `<SegmentList duration="2"><Initialization sourceURL="v-init"/><SegmentURL media="list-a"/><SegmentURL media="list-b"/><SegmentURL media="list-c"/></SegmentList>`))))
		}, []string{all(3, "v")}},
		{"SegmentList of ranges", "", func(p pieces) string {
			head, _, ranges := p.single("v", 3, false)
			var list strings.Builder
			fmt.Fprintf(&list, `<BaseURL>v.mp4</BaseURL><SegmentList duration="2"><Initialization range="%s"/>`, head)
			for _, r := range ranges {
				fmt.Fprintf(&list, `<SegmentURL mediaRange="%s"/>`, r)
			}
			return mpd(period(6, set("video", "", rep("v", 1000, list.String()+`</SegmentList>`))))
		}, []string{all(3, "v")}},
		{"sidx", "", func(p pieces) string {
			head, sidx, _ := p.single("v", 6, true)
			return mpd(period(12, set("video", "", rep("v", 1000, fmt.Sprintf(`<BaseURL>v.mp4</BaseURL><SegmentBase indexRange="%s"><Initialization range="%s"/></SegmentBase>`, sidx, head)))))
		}, []string{all(6, "v")}},
		{"three Periods, the second without sound", "", func(p pieces) string {
			for _, id := range []string{"v", "w", "x", "a", "c"} {
				p.segments(id, 2, func(i int) string { return fmt.Sprintf("%s-%03d", id, i+1) })
			}
			return mpd(period(4, set("video", "", rep("v", 1000, byNumber)), set("audio", "", rep("a", 1000, byNumber))),
				period(4, set("video", "", rep("w", 1000, byNumber))),
				period(4, set("video", "", rep("x", 1000, byNumber)), set("audio", "", rep("c", 1000, byNumber))))
		}, []string{all(2, "v", "w", "x"), all(2, "a", "c")}},
		{"sound alone, in the language that is wanted", "de", func(p pieces) string {
			for _, id := range []string{"en", "de"} {
				p.segments(id, 5, func(i int) string { return fmt.Sprintf("%s-%03d", id, i+1) })
			}
			return mpd(period(10, set("audio", "en", rep("en", 1000, byNumber)), set("audio", "de", rep("de", 1000, byNumber)), set("text", "de", rep("sub", 100, `<BaseURL>sub.vtt</BaseURL>`))))
		}, []string{all(5, "de")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, files := t.TempDir(), pieces{}
			files["x.mpd"] = []byte(tt.make(files))
			for name, b := range files {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			server := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer server.Close()
			film, err := plain.Open(t.Context(), server.URL+"/x.mpd", nil)
			if err != nil {
				t.Fatal(err)
			}
			ladder, err := title.OpenLadder(film.Manifest, tt.lang)
			if err != nil {
				t.Fatal(err)
			}
			var out recorder
			res, err := player.Play(t.Context(), player.Config{
				Menu: player.NewMenu(ladder), Stock: player.Open{Title: film}, Policy: agent.New(ladder.Title, agent.Preferences{}), Sink: &out, Fast: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			for k, want := range tt.want {
				if got := out.tracks[k].String(); got != want {
					t.Errorf("track %d plays %s, want %s", k, got, want)
				}
				if !strings.Contains(out.inits[k], "/init ") {
					t.Errorf("track %d begins with %q", k, out.inits[k])
				}
			}
			if d := film.Manifest.Duration(); (res.Played - d).Abs() > time.Millisecond {
				t.Errorf("played %v of %v", res.Played, d)
			}
		})
	}
}

func TestMenus(t *testing.T) {
	menu := film(10, 5)
	if _, err := menu.Only("text"); err == nil {
		t.Error("a menu of nothing")
	}
	sound, err := menu.Only(agent.Audio)
	if err != nil || len(sound.Tracks) != 1 || sound.Tracks[0].Kind != agent.Audio {
		t.Errorf("%+v, %v", sound.Title, err)
	}
	cut, err := menu.Cut(5*time.Second, 13*time.Second)
	if err != nil || cut.Start != 4*time.Second || len(cut.Tracks[0].Segments) != 5 || len(cut.Tracks[1].Segments) != 5 {
		t.Fatalf("%+v, %v", cut, err)
	}
	if first := cut.Tracks[1].Segments[2].Rungs[0].First; first != 0 {
		t.Errorf("the key of the group that is cut opens from %d, want 0", first)
	}
	if first := cut.Tracks[1].Segments[4].Rungs[0].First; first != 3 {
		t.Errorf("the key of the next group opens from %d, want 3", first)
	}
	if err := cut.Check(); err != nil {
		t.Error(err)
	}
	if _, err := menu.Cut(time.Hour, 0); err == nil {
		t.Error("a menu of what plays behind the end")
	}
	free := menu.Owned(func(rep *dash.Representation, index int) bool { return rep.ID == "v1" })
	for i := range 10 {
		if g := free.Tracks[0].Segments[i].Rungs; g[1].Price != 0 || g[0].Price == 0 || menu.Tracks[0].Segments[i].Rungs[1].Price == 0 {
			t.Errorf("prices %v", g)
		}
	}
}

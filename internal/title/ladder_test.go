package title_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
)

func TestLadderOfASealedTitle(t *testing.T) {
	made := titletest.Make(t, titletest.Options{Segments: 6, Group: publish.Grouping{Length: 2 * time.Second}})
	l, err := made.Ladder(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Title.Tracks) != 2 || l.Title.Tracks[0].Kind != agent.Video || l.Title.Tracks[1].Kind != agent.Audio {
		t.Fatalf("tracks %+v", l.Title.Tracks)
	}
	for k, track := range l.Title.Tracks {
		if len(track.Segments) != 6 {
			t.Fatalf("track %d has %d segments", k, len(track.Segments))
		}
		for i, s := range track.Segments {
			for r, rung := range s.Rungs {
				seg := made.Segments(t, rung.ID)[i]
				want := agent.Rung{
					ID: rung.ID, Size: int64(len(made.Sealed(t, seg))), Price: seg.Price, First: seg.Group.First,
					Quality: rung.Quality, Height: rung.Height, Rate: rung.Rate,
				}
				if rung != want || rung.Quality <= 0 || (rung.Rate > 0) != (track.Kind == agent.Audio) || s.Duration != time.Second {
					t.Errorf("track %d, segment %d, rung %d: %+v for %v, want %+v", k, i, r, rung, s.Duration, want)
				}
				if rep, index := l.At(k, i, r); rep.ID != rung.ID || index != i {
					t.Errorf("track %d, segment %d, rung %d is %s/%d", k, i, r, rep.ID, index)
				}
			}
		}
	}
	if s := l.Title.Tracks[0].Segments[3]; s.Rungs[0].ID != "v0" || s.Rungs[1].ID != "v1" || s.Rungs[0].First != 2 {
		t.Errorf("segment 3: %+v", s)
	}
}

// Periods may have other rungs, and keys open groups of their own Period.
func TestLadderOverPeriods(t *testing.T) {
	made := titletest.Make(t, titletest.Options{Segments: 3, Periods: 2, Group: publish.Grouping{Length: 2 * time.Second}})
	l, err := made.Ladder(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	video := l.Title.Tracks[0].Segments
	if len(video) != 6 || video[3].Rungs[1].ID != "v1@2" || video[4].Rungs[1].First != 3 || video[5].Rungs[0].First != 5 {
		t.Errorf("%+v", video)
	}
	if rep, index := l.At(0, 4, 1); rep.ID != "v1@2" || index != 1 {
		t.Errorf("segment 4 is %s/%d", rep.ID, index)
	}
	track, segment, rung, ok := l.Find("v1@2", 1)
	if track != 0 || segment != 4 || rung != 1 || !ok {
		t.Errorf("v1@2/1 is found at %d, %d, %d, %v", track, segment, rung, ok)
	}
	if _, _, _, ok := l.Find("v9", 0); ok {
		t.Error("found what is not there")
	}
}

// mpd has a Period for each of the texts, 4 s long.
func mpd(t *testing.T, periods ...string) *dash.Manifest {
	t.Helper()
	var text strings.Builder
	text.WriteString(`<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT` + fmt.Sprint(4*len(periods)) + `S">`)
	for i, p := range periods {
		text.WriteString(fmt.Sprintf(`<Period start="PT%dS">%s</Period>`, 4*i, p))
	}
	m, err := dash.Parse([]byte(text.String() + "</MPD>"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func set(kind, lang string, seconds int, reps ...string) string {
	var text strings.Builder
	text.WriteString(fmt.Sprintf(`<AdaptationSet contentType=%q lang=%q><SegmentTemplate timescale="1" duration="%d" media="$RepresentationID$-$Number$.m4s"/>`, kind, lang, seconds))
	for _, r := range reps {
		text.WriteString(r)
	}
	return text.String() + "</AdaptationSet>"
}

func rep(id string, bandwidth int) string {
	return fmt.Sprintf(`<Representation id=%q bandwidth="%d"/>`, id, bandwidth)
}

func ids(track agent.Track, segment int) (out []string) {
	for _, r := range track.Segments[segment].Rungs {
		out = append(out, r.ID)
	}
	return out
}

func TestOpenLadder(t *testing.T) {
	video := set("video", "", 2, rep("high", 800_000), rep("low", 80_000))
	for _, tt := range []struct {
		name     string
		periods  []string
		language string
		want     string // rungs of each track at the first and the last segment
	}{
		{"ascending by bandwidth", []string{video}, "", "[[low high] [low high]]"},
		{"the first sound", []string{video + set("audio", "en", 2, rep("en", 1)) + set("audio", "de", 2, rep("de", 1))}, "", "[[low high] [low high]] [[en] [en]]"},
		{"another language", []string{video + set("audio", "en", 2, rep("en", 1)) + set("audio", "de", 2, rep("de", 1))}, "de", "[[low high] [low high]] [[de] [de]]"},
		{"a language by its begin", []string{set("audio", "en", 2, rep("en", 1)) + set("audio", "de-CH", 2, rep("de", 1))}, "de", "[[de] [de]]"},
		{"no such language", []string{set("audio", "en", 2, rep("en", 1)) + set("audio", "de", 2, rep("de", 1))}, "fr", "[[en] [en]]"},
		{"the language of the first Period", []string{set("audio", "de", 2, rep("a", 1)), set("audio", "en", 2, rep("b", 1)) + set("audio", "de", 2, rep("c", 1))}, "", "[[a] [c]]"},
		{"other cuts are left out", []string{set("video", "", 2, rep("two", 2), `<Representation id="one" bandwidth="1"><SegmentTemplate timescale="1" duration="1"/></Representation>`)}, "", "[[two] [two]]"},
		{"another set of the kind is left out", []string{video + set("video", "", 2, rep("angle", 5))}, "", "[[low high] [low high]]"},
		{"text is left out", []string{video + set("text", "en", 4, rep("t", 1))}, "", "[[low high] [low high]]"},
		{"a gap", []string{video + set("audio", "en", 2, rep("en", 1)), set("video", "", 2, rep("advert", 9))}, "", "[[low high] [advert]] [[en] []]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := title.OpenLadder(mpd(t, tt.periods...), tt.language)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, track := range l.Title.Tracks {
				got.WriteString(fmt.Sprintf(" %v", [][]string{ids(track, 0), ids(track, len(track.Segments)-1)}))
			}
			if got.String()[1:] != tt.want {
				t.Errorf("got %s, want %s", got.String()[1:], tt.want)
			}
		})
	}
}

func TestOpenLadderEstimates(t *testing.T) {
	l, err := title.OpenLadder(mpd(t, set("video", "", 2, rep("low", 80_000), rep("high", 800_000))), "")
	if err != nil {
		t.Fatal(err)
	}
	rungs := l.Title.Tracks[0].Segments[1].Rungs
	if rungs[0].Size != 20_000 || rungs[1].Size != 200_000 || rungs[1].Price != 0 || rungs[0].First != 1 {
		t.Errorf("%+v", rungs)
	}
	if rungs[0].Quality <= 0 || rungs[1].Quality <= rungs[0].Quality {
		t.Errorf("quality %v and %v", rungs[0].Quality, rungs[1].Quality)
	}
}

func TestLadderOfNothing(t *testing.T) {
	if _, err := title.OpenLadder(mpd(t, set("text", "en", 4, rep("t", 1))), ""); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestLadderInAGap(t *testing.T) {
	l, err := title.OpenLadder(mpd(t, set("video", "", 2, rep("a", 1)), set("audio", "", 2, rep("b", 1))), "")
	if err != nil {
		t.Fatal(err)
	}
	if rep, _ := l.At(0, 3, 0); rep != nil {
		t.Errorf("there is %s in the gap", rep.ID)
	}
	if rep, index := l.At(1, 3, 0); rep == nil || rep.ID != "b" || index != 1 {
		t.Errorf("after the gap: %v, %d", rep, index)
	}
}

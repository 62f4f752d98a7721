package dash_test

import (
	"fmt"
	"strings"
	"testing"

	"htlcdash/internal/dash"
)

// film is a film of two hours in 2 s segments, 5 rungs and sound: 21,600
// segments, written in three ways.
var film = map[string]func(id int) string{
	"template": func(int) string {
		return `<SegmentTemplate timescale="1000" duration="2000" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number%05d$.m4s"/>`
	},
	"timeline": func(int) string {
		return `<SegmentTemplate timescale="48000" media="$RepresentationID$/$Time$.m4s"><SegmentTimeline>` +
			strings.Repeat(`<S d="96256"/><S d="95232"/>`, 1800) + `</SegmentTimeline></SegmentTemplate>`
	},
	"list": func(id int) string {
		return `<SegmentList duration="2">` + many(fmt.Sprintf(`<SegmentURL media="%d/%%d.m4s"/>`, id), 3600) + `</SegmentList>`
	},
}

func filmMPD(segments func(int) string) string {
	var reps strings.Builder
	for id := range 6 {
		reps.WriteString(fmt.Sprintf(`<Representation id="%d" bandwidth="%d">%s</Representation>`, id, 1000*(id+1), segments(id)))
	}
	return strings.Replace(video(reps.String()), "PT10S", "PT2H", 1)
}

func BenchmarkParse(b *testing.B) {
	for name, segments := range film {
		doc := []byte(filmMPD(segments))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dash.Parse(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	doc := filmMPD(film["template"])
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			m := parse(b, doc)
			b.StartTimer()
			m.Find("5/03600.m4s", 0)
		}
	})
	m := parse(b, doc)
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			if _, i, ok := m.Find("5/03600.m4s", 0); !ok || i != 3599 {
				b.Fatal("not found")
			}
		}
	})
}

func BenchmarkForPlayer(b *testing.B) {
	m := parse(b, filmMPD(film["template"]))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.ForPlayer(dash.PlayerOptions{MaxBandwidth: 3000, CMCD: true, Keep: func(r *dash.Representation) bool { return r.Bandwidth <= 3000 }}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseCMCD(b *testing.B) {
	query := map[string][]string{"CMCD": {`bl=5900,br=1400,cid="c1",d=2000,mtp=226600,nor="seg-2-00005.m4s",ot=v,sid="s1",tb=1400`}}
	b.ReportAllocs()
	for b.Loop() {
		dash.ParseCMCD(query, nil)
	}
}

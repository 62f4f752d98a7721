package dash_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
)

// FuzzMPD holds that whatever is read keeps its promises: clean paths inside
// the folder, order, bounds, and rewrites that read the same.
func FuzzMPD(f *testing.F) {
	for _, tt := range addressing {
		f.Add([]byte(tt.mpd))
	}
	for _, tt := range rejected {
		f.Add([]byte(tt.mpd))
	}
	for _, doc := range documents(f) {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dash.Parse(b)
		if err != nil {
			if m != nil || !errors.Is(err, htlcdash.ErrFormat) {
				t.Fatalf("%v with error %v", m, err)
			}
			return
		}
		checkPromises(t, m)
		told, err := m.ForPlayer(dash.PlayerOptions{MaxBandwidth: 1000, CMCD: true})
		if err != nil {
			t.Fatal(err)
		}
		again, err := dash.Parse(told)
		if err != nil {
			t.Fatalf("copy for a player: %v\n%s", err, told)
		}
		if got, want := describe(again), describe(m); got != want {
			t.Fatalf("the copy names\n%s\nthe MPD\n%s", got, want)
		}
		named, err := m.WithTitle("a & b")
		if err != nil || named.Title() != "a & b" || describe(named) != describe(m) {
			t.Fatalf("with a title: %v", err)
		}
		extended, err := m.Extend(htlcdash.PublisherID{1}, dash.Places{}, short(pays(m)))
		if err != nil {
			return // not publishable
		}
		sold, err := dash.Parse(extended)
		if err != nil {
			t.Fatalf("extended: %v\n%s", err, extended)
		}
		if got, want := describe(sold), describe(m); got != want {
			t.Fatalf("extended names\n%s\nthe MPD\n%s", got, want)
		}
	})
}

func checkPromises(t *testing.T, m *dash.Manifest) {
	t.Helper()
	names := map[string]bool{}
	for _, r := range m.Representations() {
		if names[r.ID] || r.Bandwidth <= 0 || len(r.Segments) > htlcdash.MaxSegments {
			t.Fatalf("Representation %+v", r)
		}
		names[r.ID] = true
		if r.Init.Path != "" {
			checkResource(t, m, r.Init)
		}
		for i, s := range r.Segments {
			checkResource(t, m, s.Resource)
			if s.Duration < 0 || (i > 0 && s.Start < r.Segments[i-1].Start) {
				t.Fatalf("segment %d of %s: %+v after %+v", i, r.ID, s, r.Segments[max(0, i-1)])
			}
		}
	}
}

func checkResource(t *testing.T, m *dash.Manifest, r dash.Resource) {
	t.Helper()
	if r.Path != path.Clean(r.Path) || path.IsAbs(r.Path) || r.Path == "." || r.Path == ".." || strings.HasPrefix(r.Path, "../") || r.Offset < 0 || r.Length < 0 {
		t.Fatalf("resource %+v", r)
	}
	if _, _, ok := m.Find(r.Path, r.Offset); !ok {
		t.Fatalf("resource %+v is not found", r)
	}
}

// FuzzSidx holds that whatever index is read gives segments one behind the
// other, inside the bounds.
func FuzzSidx(f *testing.F) {
	f.Add(sidx(100, 200, 0, reference{1000, 400}, reference{500, 100}))
	f.Add(sidx(1<<31, 1<<32, 1<<33, reference{1<<31 - 1, 1 << 31}))
	f.Add(append(box("free"), sidx(1, 0, 0, reference{1<<31 | 7, 3})...))
	f.Add([]byte("\x00\x00\x00\x01sidx\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, index []byte) {
		for box, err := range dash.Boxes(index) {
			if err == nil && (box.Size < 8 || int64(len(box.Body)) > box.Size-8) {
				t.Fatalf("box %+v", box)
			}
		}
		if len(index) == 0 || len(index) > 1<<16 {
			return
		}
		mpd, file := onDemand(index)
		m, err := resolve(t, mpd, file)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		r := m.Representations()[0]
		end := r.Init.Length
		for _, s := range r.Segments {
			if s.Offset != end || s.Length <= 0 {
				t.Fatalf("segment %+v, want it at %d", s, end)
			}
			end += s.Length
		}
		checkPromises(t, m)
		if err := m.Publishable(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzCMCD holds that what a player says stays in its bounds and names nothing
// outside the title.
func FuzzCMCD(f *testing.F) {
	f.Add(`bl=5900,br=1400,cid="c1",d=2000,mtp=226600,nor="seg-2-00005.m4s",nrr="5-9",ot=v,sid="s1",tb=1400`)
	f.Add(`br=(1400;v 64),nor=("a.m4s";r="0-5" "b.m4s"),bs=?0,su=?1,v=2`)
	f.Add(`sid="a\"b\\,c",nor="..%2F..%2Fa%2520b.m4s",pr=NaN`)
	f.Fuzz(func(t *testing.T, said string) {
		c := dash.ParseCMCD(url.Values{"CMCD": {said}}, map[string][]string{"Cmcd-Status": {said}})
		if c.Buffer < 0 || c.Deadline < 0 || c.Duration < 0 || c.Bitrate < 0 || c.TopBitrate < 0 || c.Throughput < 0 || c.MaxRate < 0 || !(c.PlaybackRate >= 0 && c.PlaybackRate <= 100) {
			t.Fatalf("%+v", c)
		}
		if len(c.SessionID)+len(c.ContentID)+len(c.ObjectType) > 3*128 || (!c.Present && c != dash.CMCD{}) {
			t.Fatalf("%+v", c)
		}
		next, offset, ok := c.Next("v/1.m4s")
		if ok && (next != path.Clean(next) || path.IsAbs(next) || strings.HasPrefix(next, "..") && (next == ".." || next[2] == '/') || offset < 0) {
			t.Fatalf("next is %q at %d", next, offset)
		}
	})
}

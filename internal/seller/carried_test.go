package seller_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/seller"
	"htlcdash/internal/title"
)

// A depot has sealed bytes that are not in a title's folder.
type depot struct {
	mu    sync.Mutex
	blobs map[htlcdash.Root][]byte
	fault error // of all that is asked
	gets  int
}

func (d *depot) Get(_ context.Context, b htlcdash.Blob) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gets++
	if d.fault != nil {
		return nil, d.fault
	}
	if data := d.blobs[b.Root]; data != nil {
		return data, nil
	}
	return nil, htlcdash.ErrNotFound
}

func (d *depot) Has(_ context.Context, b htlcdash.Blob) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil && d.blobs[b.Root] == nil {
		return htlcdash.ErrNotFound
	}
	return d.fault
}

// emptied opens a shop that holds the MPD and the keys of its title only, and
// has all sealed bytes but those of one segment elsewhere.
func emptied(t *testing.T) (s *shop, d *depot, lost htlcdash.Segment) {
	t.Helper()
	d = &depot{blobs: map[htlcdash.Root][]byte{}}
	s = open(t, nil)
	s.stop()
	for _, rep := range s.title.Manifest.Representations() {
		for _, seg := range s.title.Segments(t, rep.ID) {
			d.blobs[seg.Sealed] = s.title.Sealed(t, seg)
		}
	}
	lost = s.title.Segments(t, "v1")[3]
	delete(d.blobs, lost.Sealed)
	if err := os.RemoveAll(filepath.Join(s.title.Dir, htlcdash.SealedFolder)); err != nil {
		t.Fatal(err)
	}
	s.serve(t, func(c *seller.Config) {
		c.Sealed, c.Elsewhere = d, func(t *title.Title) bool { return t.ID == s.title.ID }
	})
	return s, d, lost
}

// Who holds only the MPD and the keys sells all the same.
func TestSealedBytesFromElsewhere(t *testing.T) {
	s, d, lost := emptied(t)
	for _, seg := range s.title.Segments(t, "v0") {
		path := "/sealed/" + seg.Sealed.String()
		a := s.get(t, path)
		if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, d.blobs[seg.Sealed]) || a.ContentLength != int64(len(a.body)) {
			t.Errorf("segment %d: %s, %d bytes", seg.Index, a.Status, len(a.body))
		}
		if !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || a.Header.Get("ETag") == "" {
			t.Errorf("segment %d: headers %v", seg.Index, a.Header)
		}
		if part := s.get(t, path, "Range", "bytes=100-199"); part.StatusCode != http.StatusPartialContent || !bytes.Equal(part.body, d.blobs[seg.Sealed][100:200]) {
			t.Errorf("segment %d: a part: %s", seg.Index, part.Status)
		}
		if o := s.offers(t, s.guest(t), seg)[0]; o.Error != "" {
			t.Errorf("segment %d: no offer: %s", seg.Index, o.Error)
		}
	}
	seg := s.title.Segments(t, "v0")[0]
	before := d.gets
	head := s.do(t, http.MethodHead, "/sealed/"+seg.Sealed.String(), "")
	if head.StatusCode != http.StatusOK || head.ContentLength != htlcdash.SealedLength(seg.Length) || d.gets != before {
		t.Errorf("HEAD: %s of %d bytes, %d fetched for it", head.Status, head.ContentLength, d.gets-before)
	}
	if a := s.get(t, "/sealed/"+lost.Sealed.String()); a.StatusCode != http.StatusNotFound {
		t.Errorf("what nobody has: %s", a.Status)
	}
	if a := s.do(t, http.MethodHead, "/sealed/"+lost.Sealed.String(), ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("HEAD of what nobody has: %s", a.Status)
	}
}

// A client that knows no seals gets the plain bytes of what lies elsewhere.
func TestPlainBytesFromElsewhere(t *testing.T) {
	s, d, _ := emptied(t)
	seg := s.title.Segments(t, "v0")[1]
	const path = "/t/title/v0/2.m4s"
	kept := bytes.Clone(d.blobs[seg.Sealed])
	paid := s.payL402(t, s.get(t, path))
	for range 2 { // what is opened must not be spoilt for the next
		a := s.get(t, path, "Authorization", paid)
		if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, s.title.Plain("v0", 1)) {
			t.Fatalf("%s, %d bytes", a.Status, len(a.body))
		}
	}
	if !bytes.Equal(kept, d.blobs[seg.Sealed]) {
		t.Error("the sealed bytes were opened in place")
	}
}

// Missing is what is missing everywhere.
func TestMissingIsMissingEverywhere(t *testing.T) {
	s, _, _ := emptied(t)
	missing := func() int { return s.settled(t, 0).Titles[0].Missing }
	for deadline := time.Now().Add(time.Minute); missing() != 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("report says %d are missing, want 1", missing())
		}
	}
}

// A source that fails is like one that has nothing: the viewer asks others.
func TestFaultsElsewhere(t *testing.T) {
	s, d, _ := emptied(t)
	d.mu.Lock()
	d.fault = errors.New("bucket is on fire")
	d.mu.Unlock()
	a := s.get(t, "/sealed/"+s.title.Segments(t, "v0")[0].Sealed.String())
	if a.StatusCode != http.StatusNotFound || bytes.Contains(a.body, []byte("fire")) {
		t.Errorf("%s: %s", a.Status, a.body)
	}
}

// What lies in the folder is served from there, and what is cut off there is not.
func TestTheFolderGoesFirst(t *testing.T) {
	d := &depot{blobs: map[htlcdash.Root][]byte{}}
	s := open(t, func(c *seller.Config) { c.Sealed, c.Elsewhere = d, func(*title.Title) bool { return true } })
	segs := s.title.Segments(t, "v0")
	want := s.title.Sealed(t, segs[0])
	if a := s.get(t, "/sealed/"+segs[0].Sealed.String()); !bytes.Equal(a.body, want) || d.gets > 0 {
		t.Errorf("%d bytes, %d fetched from elsewhere", len(a.body), d.gets)
	}
	d.blobs[segs[1].Sealed] = s.title.Sealed(t, segs[1])
	if err := os.Truncate(filepath.Join(s.title.Dir, filepath.FromSlash(htlcdash.SealedPath(segs[1].Sealed))), 100); err != nil {
		t.Fatal(err)
	}
	if a := s.get(t, "/sealed/"+segs[1].Sealed.String()); !bytes.Equal(a.body, d.blobs[segs[1].Sealed]) {
		t.Errorf("cut off in the folder: %s, %d bytes", a.Status, len(a.body))
	}
}

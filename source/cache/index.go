package cache

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"htlcdash"
	"htlcdash/lightning"
)

// indexMagic begins an index. What follows are numbers of encoding/binary's
// uvarint form, float32 as 4 bytes, big endian, and names as they are; weights
// are such that a request now counts 1. SHA-256 of all before it ends it.
const indexMagic = "htlcdash shelf 1\n"

// Index returns all that the shelf knows, for [Shelf.Restore]. Who is in the
// middle of a viewing is left out.
func (s *Shelf) Index() []byte {
	w := indexWriter{b: []byte(indexMagic), weight: s.audience.weight}
	w.audience(s.audience)
	ids := slices.SortedFunc(maps.Keys(s.audience.titles), func(a, b htlcdash.TitleID) int { return bytes.Compare(a[:], b[:]) })
	numbers := make(map[htlcdash.TitleID]int, len(ids))
	w.uint(len(ids))
	for i, id := range ids {
		numbers[id] = i
		w.title(s.audience.titles[id])
	}
	absent := make(map[htlcdash.Blob]float64)
	maps.Copy(absent, s.absent.old)
	maps.Copy(absent, s.absent.young)
	var held []*entry
	for _, e := range s.order {
		if e.unsure {
			absent[e.Blob] = e.asked
		} else {
			held = append(held, e)
		}
	}
	slices.SortFunc(held, func(a, b *entry) int { return compareBlobs(a.Blob, b.Blob) })
	w.uint(len(held))
	for _, e := range held {
		w.blob(e.Blob, e.asked)
		w.uint(int(e.Cost))
		if !e.Place.known() {
			w.uint(0)
			continue
		}
		w.uint(numbers[e.Place.Title] + 1)
		w.uint(e.Place.Track)
		w.uint(e.Place.Index)
		w.uint(e.Place.Count)
	}
	w.uint(len(absent))
	for _, b := range slices.SortedFunc(maps.Keys(absent), compareBlobs) {
		w.blob(b, absent[b])
	}
	sum := sha256.Sum256(w.b)
	return append(w.b, sum[:]...)
}

func compareBlobs(a, b htlcdash.Blob) int {
	return cmp.Or(bytes.Compare(a.Root[:], b.Root[:]), cmp.Compare(a.Length, b.Length))
}

type indexWriter struct {
	b      []byte
	weight float64
}

func (w *indexWriter) uint(n int) { w.b = binary.AppendUvarint(w.b, uint64(n)) }

func (w *indexWriter) number(x float64) {
	w.b = binary.BigEndian.AppendUint32(w.b, math.Float32bits(float32(x)))
}

func (w *indexWriter) weights(list ...float64) {
	for _, x := range list {
		w.number(x / w.weight)
	}
}

func (w *indexWriter) audience(a *Audience) {
	w.number(a.gap)
	w.weights(a.begun)
	for _, list := range [][]float64{a.tracks[:], a.asked[:], a.watched[:], a.left[:]} {
		w.weights(list...)
	}
}

func (w *indexWriter) title(t *title) {
	w.b = append(w.b, t.id[:]...)
	w.weights(t.viewings)
	w.uint(len(t.tracks))
	for _, row := range t.tracks {
		w.weights(row.viewings)
		w.uint(len(row.asked))
		before := 0 // only what was asked for; each says how many it leaves out
		for i, n := range row.asked {
			if n > 0 {
				w.uint(i - before)
				w.weights(n)
				before = i + 1
			}
		}
		w.uint(len(row.asked) - before) // to the end
	}
}

func (w *indexWriter) blob(b htlcdash.Blob, asked float64) {
	w.b = append(w.b, b.Root[:]...)
	w.uint(int(b.Length))
	w.weights(asked)
}

// Restore makes an empty shelf know what index says, and hold the blobs that
// are still there, the oldest first. It returns those that have no room any
// more. An error, which matches [htlcdash.ErrFormat], means that the index says
// nothing: blobs are held all the same.
func (s *Shelf) Restore(index []byte, there []htlcdash.Blob) (gone []htlcdash.Blob, err error) {
	r := indexReader{}
	if len(index) > 0 {
		if err = r.read(index); err == nil {
			s.audience, s.absent.young = r.a, r.absent
		}
	}
	for _, b := range there {
		it, known := r.held[b]
		if !known {
			it.Blob = b
			s.audience.Asked(Place{}) // so the youngest weighs most
			s.absent.add(b, s.audience.weight)
		}
		in, out := s.Put(it)
		if !in {
			out = append(out, b)
		}
		if e := s.items[b]; e != nil {
			e.unsure = !known
		}
		gone = append(gone, out...)
	}
	return gone, err
}

// An indexReader takes an index to pieces. The first error stays.
type indexReader struct {
	b      []byte
	bad    bool
	a      *Audience
	titles []htlcdash.TitleID
	held   map[htlcdash.Blob]Item
	absent map[htlcdash.Blob]float64
}

func (r *indexReader) read(index []byte) error {
	body := len(index) - sha256.Size
	if body < len(indexMagic) || string(index[:len(indexMagic)]) != indexMagic || sha256.Sum256(index[:body]) != [sha256.Size]byte(index[body:]) {
		return fmt.Errorf("index of a shelf: %w: torn, or of another version", htlcdash.ErrFormat)
	}
	r.b = index[len(indexMagic):body]
	r.a = NewAudience()
	r.held, r.absent = make(map[htlcdash.Blob]Item), make(map[htlcdash.Blob]float64)
	r.audience(r.a)
	for range r.count(math.MaxInt, 37) {
		r.title()
	}
	for range r.count(math.MaxInt, 39) {
		b, asked := r.blob()
		it := Item{Blob: b, Cost: lightning.Msat(r.uint(math.MaxInt64))}
		if n := r.uint(len(r.titles)); n > 0 {
			it.Place = Place{Title: r.titles[n-1], Track: r.uint(maxTracks - 1), Index: r.uint(maxCount), Count: r.uint(maxCount)}
			r.bad = r.bad || !it.Place.known()
		}
		r.held[b], r.absent[b] = it, asked
	}
	for range r.count(math.MaxInt, 37) {
		b, asked := r.blob()
		r.absent[b] = asked
	}
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("index of a shelf: %w", htlcdash.ErrFormat)
	}
	return nil
}

func (r *indexReader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *indexReader) uint(most int) int {
	n, size := binary.Uvarint(r.b)
	if r.bad || size <= 0 || n > uint64(most) {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return int(n)
}

// count reads how many things of so many bytes at least follow.
func (r *indexReader) count(most, each int) int { return r.uint(min(most, len(r.b)/each)) }

func (r *indexReader) number() float64 {
	x := float64(math.Float32frombits(binary.BigEndian.Uint32(r.take(4))))
	if !(x >= 0 && x <= math.MaxFloat32) {
		r.bad = true
		return 0
	}
	return x
}

func (r *indexReader) audience(a *Audience) {
	a.gap = max(r.number(), 1)
	a.begun = r.number()
	for _, list := range [][]float64{a.tracks[:], a.asked[:], a.watched[:], a.left[:]} {
		for i := range list {
			list[i] = r.number()
		}
	}
	for _, n := range a.tracks {
		a.watching += n
	}
}

func (r *indexReader) title() {
	t := &title{id: htlcdash.TitleID(r.take(32)), viewings: r.number()}
	for i := range r.count(maxTracks, 6) {
		viewings, n := r.number(), r.uint(maxCount)
		if r.a.known += n; r.a.known > maxKnown {
			r.bad = true
			return
		}
		row := t.track(i, n)
		row.viewings = viewings
		t.watched += viewings
		for at := r.uint(n); at < n && !r.bad; at += 1 + r.uint(n-at-1) {
			row.asked[at] = r.number()
		}
	}
	if _, twice := r.a.titles[t.id]; twice {
		r.bad = true
	}
	r.a.titles[t.id] = t
	r.titles = append(r.titles, t.id)
}

func (r *indexReader) blob() (b htlcdash.Blob, asked float64) {
	b.Root = htlcdash.Root(r.take(32))
	b.Length = int64(r.uint(math.MaxInt64))
	return b, r.number()
}

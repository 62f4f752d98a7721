package cachetrial

import (
	"container/heap"
	"container/list"
	"encoding/binary"

	"htlcdash"
	"htlcdash/source/cache"
)

// A Policy decides what a cache holds.
type Policy interface {
	// Ask says whether it is held. If not, it is offered next.
	Ask(it cache.Item) bool
	Put(it cache.Item)
}

type lru struct {
	bound, bytes int64
	order        *list.List
	items        map[htlcdash.Blob]*list.Element
}

func newLRU(bound int64) Policy {
	return &lru{bound: bound, order: list.New(), items: map[htlcdash.Blob]*list.Element{}}
}

func (c *lru) Ask(it cache.Item) bool {
	e, ok := c.items[it.Blob]
	if ok {
		c.order.MoveToFront(e)
	}
	return ok
}

func (c *lru) Put(it cache.Item) {
	c.items[it.Blob] = c.order.PushFront(it.Blob)
	for c.bytes += it.Blob.Length; c.bytes > c.bound; {
		last := c.order.Remove(c.order.Back()).(htlcdash.Blob)
		delete(c.items, last)
		c.bytes -= last.Length
	}
}

// gdsf is Greedy Dual Size Frequency with money as the cost: the least
// H = L + frequency * msat per byte goes, and L becomes what it had.
type gdsf struct {
	bound, bytes int64
	floor        float64 // L
	items        map[htlcdash.Blob]*gdsfItem
	order        gdsfHeap
	admit        bool
	asked        map[htlcdash.Blob]float64
	requests     int
}

type gdsfItem struct {
	blob      htlcdash.Blob
	frequency float64
	h         float64
	index     int
}

func newGDSF(bound int64, admit bool) Policy {
	return &gdsf{bound: bound, items: map[htlcdash.Blob]*gdsfItem{}, admit: admit, asked: map[htlcdash.Blob]float64{}}
}

func density(it cache.Item) float64 { return float64(it.Cost) / float64(it.Blob.Length) }

func (c *gdsf) Ask(it cache.Item) bool {
	if c.admit {
		c.asked[it.Blob]++
		if c.requests++; c.requests%200_000 == 0 {
			for b, n := range c.asked {
				if c.asked[b] = n / 2; n < 0.8 {
					delete(c.asked, b)
				}
			}
		}
	}
	e, ok := c.items[it.Blob]
	if ok {
		e.frequency++
		e.h = c.floor + e.frequency*density(it)
		heap.Fix(&c.order, e.index)
	}
	return ok
}

func (c *gdsf) Put(it cache.Item) {
	e := &gdsfItem{blob: it.Blob, frequency: 1}
	if c.admit {
		e.frequency = c.asked[it.Blob]
	}
	h := c.floor + e.frequency*density(it)
	if c.admit && c.bytes+it.Blob.Length > c.bound && len(c.order) > 0 && h <= c.order[0].h {
		return
	}
	for c.bytes+it.Blob.Length > c.bound && len(c.order) > 0 {
		out := heap.Pop(&c.order).(*gdsfItem)
		c.floor = out.h
		delete(c.items, out.blob)
		c.bytes -= out.blob.Length
	}
	e.h = c.floor + e.frequency*density(it)
	heap.Push(&c.order, e)
	c.items[it.Blob] = e
	c.bytes += it.Blob.Length
}

type gdsfHeap []*gdsfItem

func (h gdsfHeap) Len() int           { return len(h) }
func (h gdsfHeap) Less(i, j int) bool { return h[i].h < h[j].h }
func (h gdsfHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *gdsfHeap) Push(x any) {
	e := x.(*gdsfItem)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *gdsfHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// shelf is ours. place says what it is told of titles.
type shelf struct {
	*cache.Shelf
	place func(cache.Item) cache.Place
}

func (s shelf) Ask(it cache.Item) bool {
	it.Place = s.place(it)
	return s.Shelf.Ask(it)
}

func (s shelf) Put(it cache.Item) {
	it.Place = s.place(it)
	s.Shelf.Put(it)
}

func newShelf(place func(cache.Item) cache.Place) func(int64) Policy {
	return func(bound int64) Policy { return shelf{cache.New(bound), place} }
}

func right(it cache.Item) cache.Place { return it.Place }

func none(cache.Item) cache.Place { return cache.Place{} }

// wrong gives each blob a place anywhere.
func wrong(it cache.Item) cache.Place {
	h := binary.BigEndian.Uint64(it.Blob.Root[:])
	p := cache.Place{Track: it.Place.Track, Index: int(h % uint64(it.Place.Count)), Count: it.Place.Count}
	binary.BigEndian.PutUint64(p.Title[:], h/uint64(it.Place.Count)%1500+1)
	return p
}

// A Contender is a policy by name.
type Contender struct {
	Name string
	Make func(bound int64) Policy
}

// Names of contenders that others look for.
const (
	Ours     = "ours"
	Untold   = "ours, told no titles"
	Misled   = "ours, told wrong titles"
	Baseline = "LRU"
)

// Contenders are all policies that are compared, the plainest first.
func Contenders() []Contender {
	return []Contender{
		{Baseline, newLRU},
		{"W-TinyLFU", newTinyLFU},
		{"GDSF", func(bound int64) Policy { return newGDSF(bound, false) }},
		{"GDSF, admission", func(bound int64) Policy { return newGDSF(bound, true) }},
		{Misled, newShelf(wrong)},
		{Untold, newShelf(none)},
		{Ours, newShelf(right)},
	}
}

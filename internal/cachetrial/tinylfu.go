package cachetrial

import (
	"container/list"

	"htlcdash"
	"htlcdash/source/cache"
)

// tinyLFU is W-TinyLFU (Einziger, Friedman and Manes, 2017) by its book: a
// window of 1 % that is an LRU, and behind it a segmented LRU whose victim must
// have been asked for less often than who leaves the window. Counts are exact
// and halve after ten requests for each that is held, where others have a
// sketch. It knows no prices.
type tinyLFU struct {
	bound    int64
	bytes    [3]int64 // by segment
	segments [3]*list.List
	items    map[htlcdash.Blob]*list.Element
	counts   map[htlcdash.Blob]uint8
	since    int // requests since counts were halved
}

const (
	window = iota
	probation
	protected
)

type tinyItem struct {
	blob    htlcdash.Blob
	segment int
}

func newTinyLFU(bound int64) Policy {
	return &tinyLFU{bound: bound, segments: [3]*list.List{list.New(), list.New(), list.New()}, items: map[htlcdash.Blob]*list.Element{}, counts: map[htlcdash.Blob]uint8{}}
}

func (c *tinyLFU) Ask(it cache.Item) bool {
	c.count(it.Blob)
	e, ok := c.items[it.Blob]
	if !ok {
		return false
	}
	switch t := e.Value.(*tinyItem); t.segment {
	case probation:
		c.move(e, protected)
		for c.bytes[protected] > c.bound*79/100 {
			c.move(c.segments[protected].Back(), probation)
		}
	default:
		c.segments[t.segment].MoveToFront(e)
	}
	return true
}

// count counts to 15, as sketches of four bits do.
func (c *tinyLFU) count(b htlcdash.Blob) {
	if c.counts[b] < 15 {
		c.counts[b]++
	}
	if c.since++; c.since < 10*max(len(c.items), 1000) {
		return
	}
	c.since = 0
	for b, n := range c.counts {
		if c.counts[b] = n / 2; n < 2 {
			delete(c.counts, b)
		}
	}
}

func (c *tinyLFU) Put(it cache.Item) {
	c.insert(&tinyItem{it.Blob, window})
	for c.bytes[window] > c.bound/100 {
		c.leaveWindow(c.remove(c.segments[window].Back()))
	}
}

// leaveWindow keeps who leaves the window if it was asked for more often than
// those who must go for it.
func (c *tinyLFU) leaveWindow(t *tinyItem) {
	for c.bytes[probation]+c.bytes[protected]+t.blob.Length > c.bound-c.bound/100 {
		victim := c.segments[probation].Back()
		if victim == nil || c.counts[t.blob] <= c.counts[victim.Value.(*tinyItem).blob] {
			return
		}
		c.remove(victim)
	}
	t.segment = probation
	c.insert(t)
}

func (c *tinyLFU) insert(t *tinyItem) {
	c.items[t.blob] = c.segments[t.segment].PushFront(t)
	c.bytes[t.segment] += t.blob.Length
}

func (c *tinyLFU) remove(e *list.Element) *tinyItem {
	t := e.Value.(*tinyItem)
	c.segments[t.segment].Remove(e)
	c.bytes[t.segment] -= t.blob.Length
	delete(c.items, t.blob)
	return t
}

func (c *tinyLFU) move(e *list.Element, segment int) {
	t := c.remove(e)
	t.segment = segment
	c.insert(t)
}

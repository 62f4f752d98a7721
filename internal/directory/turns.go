package directory

import "sync"

// Bounds of what waits to be verified.
const (
	maxWaiting = 2048
	maxOfOne   = 256 // that came from one place
)

// turns are announcements that wait to be verified, in turns by the place that
// they came from: who floods waits for himself.
type turns struct {
	mu    sync.Mutex
	of    map[string][]Announcement
	order []string // places with something in of, whose turn is next first
	n     int
	more  chan struct{} // holds one if there may be something
}

func newTurns() *turns { return &turns{of: map[string][]Announcement{}, more: make(chan struct{}, 1)} }

// put queues a, or drops it if there is no room: the provider will announce
// again.
func (t *turns) put(place string, a Announcement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n >= maxWaiting || len(t.of[place]) >= maxOfOne {
		return
	}
	if len(t.of[place]) == 0 {
		t.order = append(t.order, place)
	}
	t.of[place] = append(t.of[place], a)
	t.n++
	offer(t.more, struct{}{})
}

// take gives the next one, if there is one.
func (t *turns) take() (a Announcement, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		return a, false
	}
	place := t.order[0]
	t.order = t.order[1:]
	a, t.of[place] = t.of[place][0], t.of[place][1:]
	if len(t.of[place]) == 0 {
		delete(t.of, place)
	} else {
		t.order = append(t.order, place)
	}
	if t.n--; t.n > 0 {
		offer(t.more, struct{}{}) // for who else works
	}
	return a, true
}

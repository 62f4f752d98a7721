package town

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// A Riot kills one shop after another, and has each opened again.
type Riot struct {
	Shops []*Shop
	Every time.Duration // one is killed
	Down  time.Duration // from then until it is opened again
	Draw  *rand.Rand    // chooses which
	Told  func(*Shop)   // of each kill; may be nil
}

// Run riots until ctx is done, and returns how many were killed when all shops are
// open again. The error is of those that did not open.
func (r Riot) Run(ctx context.Context) (killed int, err error) {
	var work sync.WaitGroup
	var mu sync.Mutex
	down := map[*Shop]bool{} // mu guards it, and err
	tick := time.NewTicker(r.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			work.Wait()
			return killed, err
		case <-tick.C:
		}
		s := r.Shops[r.Draw.IntN(len(r.Shops))]
		mu.Lock()
		again := down[s]
		down[s] = true
		mu.Unlock()
		if again || !s.Kill() {
			continue
		}
		killed++
		if r.Told != nil {
			r.Told(s)
		}
		work.Go(func() {
			select {
			case <-time.After(r.Down):
			case <-ctx.Done():
			}
			opened := s.Open(context.WithoutCancel(ctx))
			mu.Lock()
			defer mu.Unlock()
			down[s] = false
			err = errors.Join(err, opened)
		})
	}
}

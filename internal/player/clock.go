package player

import (
	"sync"
	"time"
)

// A clock counts the time of the title: life, or faster, or with leaps.
type clock struct {
	began time.Time
	speed float64

	mu    sync.Mutex
	leapt time.Duration
}

func (c *clock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(float64(time.Since(c.began))*c.speed) + c.leapt
}

// leap lets time go by that nobody waits for.
func (c *clock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leapt += d
}

// life is how long a time of the title lasts outside.
func (c *clock) life(d time.Duration) time.Duration { return time.Duration(float64(d) / c.speed) }

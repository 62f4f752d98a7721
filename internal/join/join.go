// Package join does once what many ask for at the same time.
//
// Unlike singleflight, work ends when the last of those who asked has gone: a
// player that seeks leaves nothing behind that uses its line.
package join

import (
	"context"
	"sync"
)

// A Group joins work by key. The zero value is ready. Its methods may be
// called at once.
type Group[K comparable, V any] struct {
	mu   sync.Mutex
	work map[K]*work[V]
}

type work[V any] struct {
	cancel  context.CancelFunc
	waiters int           // guarded by Group.mu
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

// Do returns what do returns, running it once for all calls with the same key
// that overlap. The context given to do has the values of the first caller's
// and ends when all callers' have. A caller whose ctx ends gets its error.
func (g *Group[K, V]) Do(ctx context.Context, key K, do func(context.Context) (V, error)) (V, error) {
	w := g.join(ctx, key, do)
	select {
	case <-w.done:
		return w.value, w.err
	case <-ctx.Done():
		g.leave(key, w)
		var zero V
		return zero, ctx.Err()
	}
}

func (g *Group[K, V]) join(ctx context.Context, key K, do func(context.Context) (V, error)) *work[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.work[key]
	if !ok {
		w = &work[V]{done: make(chan struct{})}
		ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if g.work == nil {
			g.work = make(map[K]*work[V])
		}
		g.work[key] = w
		go g.run(ctx, key, w, do)
	}
	w.waiters++
	return w
}

func (g *Group[K, V]) run(ctx context.Context, key K, w *work[V], do func(context.Context) (V, error)) {
	defer w.cancel()
	w.value, w.err = do(ctx)
	g.mu.Lock()
	g.drop(key, w)
	g.mu.Unlock()
	close(w.done)
}

func (g *Group[K, V]) leave(key K, w *work[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.waiters--; w.waiters == 0 {
		w.cancel()
		g.drop(key, w) // who comes now begins anew
	}
}

// drop forgets w, unless later work has taken its place.
func (g *Group[K, V]) drop(key K, w *work[V]) {
	if g.work[key] == w {
		delete(g.work, key)
	}
}

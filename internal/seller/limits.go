package seller

import (
	"container/list"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds the memory of the limits, networks included. Who asks from
// more networks than that resets them, and meets the bounds on all together.
const maxAddresses = 1 << 14

// networkShare is how many addresses' limits those of one network share.
const networkShare = 16

// clients tells who asks, and how often one may.
type clients struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets lru[netip.Prefix, *rate.Limiter]
}

func newClients(limit rate.Limit, burst int) *clients {
	return &clients{limit: limit, burst: burst, buckets: newLRU[netip.Prefix, *rate.Limiter](maxAddresses)}
}

// allow takes n tokens out of the buckets of addr and of its network, or says
// when they will be there.
func (c *clients) allow(addr netip.Addr, n int) (wait time.Duration, ok bool) {
	c.mu.Lock()
	buckets := [2]*rate.Limiter{
		c.bucket(netip.PrefixFrom(addr, addr.BitLen()), 1), c.bucket(network(addr), networkShare),
	}
	c.mu.Unlock()
	now := time.Now()
	var taken [2]*rate.Reservation
	for i, b := range buckets {
		taken[i] = b.ReserveN(now, n)
		if taken[i].OK() && taken[i].DelayFrom(now) == 0 {
			continue
		}
		wait = time.Minute
		if taken[i].OK() {
			wait = taken[i].DelayFrom(now)
		}
		for _, r := range taken[:i+1] {
			r.CancelAt(now)
		}
		return wait, false
	}
	return 0, true
}

// fine takes n tokens more from addr, which may have to wait for them later.
func (c *clients) fine(addr netip.Addr, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.bucket(netip.PrefixFrom(addr, addr.BitLen()), 1).ReserveN(now, n)
	c.bucket(network(addr), networkShare).ReserveN(now, n)
}

// refund gives n tokens back to addr, which never has more than at first.
func (c *clients) refund(addr netip.Addr, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.bucket(netip.PrefixFrom(addr, addr.BitLen()), 1).AllowN(now, -n)
	c.bucket(network(addr), networkShare).AllowN(now, -n)
}

// bucket is that of a network with so many times the limits of an address. The
// caller holds mu.
func (c *clients) bucket(of netip.Prefix, times int) *rate.Limiter {
	b, found := c.buckets.get(of)
	if !found {
		b = rate.NewLimiter(c.limit*rate.Limit(times), c.burst*times)
		c.buckets.put(of, b)
	}
	return b
}

// network is what one person can have all of for little money.
func network(addr netip.Addr) netip.Prefix {
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, _ := addr.Prefix(bits)
	return p
}

// address returns who sent r, for rate limits: the last address in
// X-Forwarded-For that is no trusted proxy, if a trusted proxy sent it. Of an
// IPv6 address only the network counts, since one person has all of it.
func address(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := peer.Addr().Unmap()
	if isTrusted(addr, trusted) {
		addr = forwarded(r.Header.Values("X-Forwarded-For"), addr, trusted)
	}
	if addr.Is6() {
		network, _ := addr.WithZone("").Prefix(64)
		addr = network.Addr()
	}
	return addr
}

// forwarded walks from the nearest hop outwards, at most 16 hops.
func forwarded(values []string, nearest netip.Addr, trusted []netip.Prefix) netip.Addr {
	hops := strings.Split(strings.Join(values, ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-16); i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return nearest
		}
		nearest = addr.Unmap()
		if !isTrusted(nearest, trusted) {
			break
		}
	}
	return nearest
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// An lru is a map that forgets what was not used for longest. It does not lock.
type lru[K comparable, V any] struct {
	max   int
	items map[K]*list.Element
	order *list.List // of pair[K, V], newest first
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) lru[K, V] {
	return lru[K, V]{max: limit, items: map[K]*list.Element{}, order: list.New()}
}

func (l *lru[K, V]) get(key K) (v V, ok bool) {
	e, ok := l.items[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(pair[K, V]).value, true
}

func (l *lru[K, V]) put(key K, v V) {
	if e, ok := l.items[key]; ok {
		e.Value = pair[K, V]{key, v}
		l.order.MoveToFront(e)
		return
	}
	if l.order.Len() >= l.max {
		delete(l.items, l.order.Remove(l.order.Back()).(pair[K, V]).key)
	}
	l.items[key] = l.order.PushFront(pair[K, V]{key, v})
}

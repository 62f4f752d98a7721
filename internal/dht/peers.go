package dht

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/metainfo"
)

// Bounds of what strangers can make a node remember.
const (
	maxTargets    = 4096
	maxPeers      = 64 // of one target
	maxOfAddress  = 16 // ports of one IP address, for one target: many providers may share a machine
	maxOfStranger = 512
	peerLife      = 45 * time.Minute
	sweepPause    = time.Minute // looking for old ones costs a millisecond
)

// peers is what others have announced, bounded, and forgotten when it is old. The
// library's own store gives no usable addresses and forgets nothing.
type peers struct {
	now func() time.Time

	mu      sync.Mutex
	targets map[metainfo.Hash]map[netip.AddrPort]time.Time // when it was announced
	of      map[netip.Addr]int                             // entries of one address, in all targets
	swept   time.Time
}

func newPeers(now func() time.Time) *peers {
	return &peers{now: now, targets: map[metainfo.Hash]map[netip.AddrPort]time.Time{}, of: map[netip.Addr]int{}}
}

// AddPeer implements peer_store.Interface. The library has checked that the announcer
// holds the address.
func (p *peers) AddPeer(target metainfo.Hash, a krpc.NodeAddr) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok || a.Port <= 0 || a.Port > 65535 {
		return
	}
	at := netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.targets[target] == nil && len(p.targets) >= maxTargets && p.now().Sub(p.swept) >= sweepPause {
		p.sweep()
	}
	if p.targets[target] == nil && len(p.targets) >= maxTargets {
		return // full of what is fresh: who announces again finds room later
	}
	there := p.targets[target]
	if _, known := there[at]; !known {
		p.expire(target)
		there = p.targets[target]
		if !p.room(target, there, at) {
			return
		}
		p.of[at.Addr()]++
	}
	if there == nil {
		there = map[netip.AddrPort]time.Time{}
		p.targets[target] = there
	}
	there[at] = p.now()
}

// room makes room for at, and reports whether it may come in: one address cannot
// drive out others.
func (p *peers) room(target metainfo.Hash, there map[netip.AddrPort]time.Time, at netip.AddrPort) bool {
	if p.of[at.Addr()] >= maxOfStranger {
		return false
	}
	crowd := map[netip.Addr]int{}
	for a := range there {
		crowd[a.Addr()]++
	}
	if crowd[at.Addr()] >= maxOfAddress {
		return false
	}
	if len(there) < maxPeers {
		return true
	}
	most := at.Addr()
	for a, n := range crowd {
		if n > crowd[most] {
			most = a
		}
	}
	if most == at.Addr() {
		return false
	}
	var oldest netip.AddrPort
	for a, t := range there {
		if a.Addr() == most && (!oldest.IsValid() || t.Before(there[oldest])) {
			oldest = a
		}
	}
	p.drop(target, oldest)
	return true
}

// GetPeers implements peer_store.Interface.
func (p *peers) GetPeers(target metainfo.Hash) []krpc.NodeAddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(target)
	out := make([]krpc.NodeAddr, 0, len(p.targets[target]))
	for _, a := range slices.SortedFunc(maps.Keys(p.targets[target]), netip.AddrPort.Compare) {
		out = append(out, krpc.NodeAddr{IP: a.Addr().AsSlice(), Port: int(a.Port())})
	}
	return out
}

func (p *peers) sweep() {
	p.swept = p.now()
	for target := range p.targets {
		p.expire(target)
	}
}

func (p *peers) expire(target metainfo.Hash) {
	for a, t := range p.targets[target] {
		if p.now().Sub(t) >= peerLife {
			p.drop(target, a)
		}
	}
}

func (p *peers) drop(target metainfo.Hash, a netip.AddrPort) {
	delete(p.targets[target], a)
	if len(p.targets[target]) == 0 {
		delete(p.targets, target)
	}
	if p.of[a.Addr()]--; p.of[a.Addr()] <= 0 {
		delete(p.of, a.Addr())
	}
}

// nothing stores nothing: BEP 44 is not for us, and a store of strangers' data would
// grow without bound.
type nothing struct{}

var errNotStored = errors.New("dht: nothing is stored here")

func (nothing) Put(*bep44.Item) error                 { return errNotStored }
func (nothing) Get(bep44.Target) (*bep44.Item, error) { return nil, bep44.ErrItemNotFound }
func (nothing) Del(bep44.Target) error                { return nil }

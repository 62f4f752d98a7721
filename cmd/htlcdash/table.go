package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/dht"
	"htlcdash/internal/reach"
	"htlcdash/internal/seller"
)

// Bounds of a search in the distributed hash table. What is found there may be a
// victim's address: it is asked seldom, and few of its network.
const (
	tableTime    = 15 * time.Second // of one search; nodes that are gone take a second each
	tableGrace   = time.Second      // after the first seller, for others
	tablePause   = time.Minute      // between searches for one title
	tableProbe   = 4 * time.Second
	tableAtOnce  = 16 // addresses that are asked
	tableOfGroup = 4  // addresses of one network
	maxSearched  = 256
)

// A table finds sellers through a distributed hash table. Its methods may be called
// at once.
type table struct {
	node   *dht.Node
	client *http.Client
	local  bool // addresses in local networks are asked, too

	mu       sync.Mutex
	searched map[htlcdash.TitleID]time.Time
}

// openTable opens a viewer's node, which answers nobody.
func openTable(bootstrap []string, local bool, client *http.Client, log *slog.Logger) (*table, error) {
	node, err := dht.New(dht.Config{Listen: ":0", Bootstrap: bootstrap, Passive: true, Log: log})
	if err != nil {
		return nil, err
	}
	return &table{node: node, client: client, local: local, searched: map[htlcdash.TitleID]time.Time{}}, nil
}

// asURLs are hosts and ports in the form of URLs.
func asURLs(hostports []string) (out []string) {
	for _, s := range hostports {
		out = append(out, (&url.URL{Scheme: "udp", Host: s}).String())
	}
	return out
}

// sellers returns the addresses of providers that list a title. It asks those that
// the table names, and soon returns once one was found. Within a minute it does not
// search for the same title again.
func (t *table) sellers(ctx context.Context, id htlcdash.TitleID) ([]string, error) {
	if !t.due(id) {
		return nil, nil
	}
	search, stop := context.WithTimeout(ctx, tableTime)
	defer stop()
	var (
		work   sync.WaitGroup
		places = make(chan struct{}, tableAtOnce)
		groups = map[string]int{}
		mu     sync.Mutex
		found  []string
	)
	ask := func(address string) {
		defer work.Done()
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-search.Done():
			return
		}
		if !t.sells(search, address, id) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if found = append(found, address); len(found) == 1 {
			time.AfterFunc(tableGrace, stop)
		}
	}
	err := t.node.Find(search, id, func(at netip.AddrPort) bool {
		u := &url.URL{Scheme: "http", Host: at.String()}
		group := reach.Group(u)
		if groups[group]++; groups[group] <= tableOfGroup && (t.local || !reach.IsLocal(u.Hostname())) {
			work.Add(1)
			go ask(u.String())
		}
		return true
	})
	work.Wait()
	switch {
	case ctx.Err() != nil:
		return found, ctx.Err()
	case len(found) > 0 || errors.Is(err, context.DeadlineExceeded):
		err = nil
	case errors.Is(err, dht.ErrAlone):
		t.forget(id) // it may be found as soon as a node answers
	}
	return found, err
}

// due reports whether a title may be searched for, and takes it for searched then.
func (t *table) due(id htlcdash.TitleID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if last, ok := t.searched[id]; ok && now.Sub(last) < tablePause {
		return false
	}
	if len(t.searched) >= maxSearched {
		clear(t.searched)
	}
	t.searched[id] = now
	return true
}

func (t *table) forget(id htlcdash.TitleID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.searched, id)
}

// sells asks an address whether a title is on sale there.
func (t *table) sells(ctx context.Context, address string, id htlcdash.TitleID) bool {
	ctx, cancel := context.WithTimeout(ctx, tableProbe)
	defer cancel()
	p, err := buyer.NewProvider(address, t.client)
	if err != nil {
		return false
	}
	list, err := p.Titles(ctx)
	return err == nil && slices.ContainsFunc(list, func(i buyer.TitleInfo) bool { return i.ID == id })
}

// A stand is the provider's node of the table, and what it announces there. A nil
// one takes no part.
type stand struct {
	node *dht.Node
	port int
	sold atomic.Pointer[[]htlcdash.TitleID]
}

// openStand opens the provider's node, or returns nil if it takes no part.
func (c serveCommand) openStand(ctx context.Context, door net.Addr, log *slog.Logger) (*stand, error) {
	if c.DHT == "" && len(c.DHTBootstrap) > 0 {
		return nil, usageError{errors.New("--dht-bootstrap needs --dht, the UDP address at which this provider takes part")}
	}
	if c.DHT == "" {
		return nil, nil
	}
	port, self, err := c.soldAt(ctx, door)
	if err != nil {
		return nil, usageError{err}
	}
	node, err := dht.New(dht.Config{Listen: c.DHT, Bootstrap: c.DHTBootstrap, Self: self, Log: log})
	if err != nil {
		return nil, usageError{fmt.Errorf("--dht: %w", err)}
	}
	log.Info("in the distributed hash table", "listen", node.Addr().String(), "sold at port", port)
	return &stand{node: node, port: port}, nil
}

// sell says what is on sale from now on.
func (s *stand) sell(list []seller.OnSale) {
	if s == nil {
		return
	}
	ids := make([]htlcdash.TitleID, len(list))
	for i, t := range list {
		ids[i] = t.ID
	}
	s.sold.Store(&ids)
}

func (s *stand) close() {
	if s != nil {
		s.node.Close()
	}
}

// run announces until ctx is done.
func (s *stand) run(ctx context.Context) {
	if s == nil {
		return
	}
	s.node.Announce(ctx, s.port, func() []htlcdash.TitleID {
		if ids := s.sold.Load(); ids != nil {
			return *ids
		}
		return nil
	})
}

// soldAt is where viewers that come by the table find this provider: at the first
// public address in the clear, else where it listens.
func (c serveCommand) soldAt(ctx context.Context, door net.Addr) (port int, self netip.Addr, err error) {
	for _, s := range c.PublicURL {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || u.Path != "" && u.Path != "/" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, tableProbe)
		defer cancel()
		if all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname()); err == nil && len(all) > 0 {
			self = all[0].Unmap()
		}
		port, err = strconv.Atoi(cmp.Or(u.Port(), "80"))
		return port, self, err
	}
	at, err := netip.ParseAddrPort(door.String())
	if err == nil && !at.Addr().IsUnspecified() {
		self = at.Addr().Unmap()
	}
	return int(at.Port()), self, err
}

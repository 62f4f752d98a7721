package dht

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"
	"golang.org/x/time/rate"

	"htlcdash"
)

func node(t *testing.T, passive bool, begin ...*Node) *Node {
	t.Helper()
	var addresses []string
	for _, n := range begin {
		addresses = append(addresses, n.Addr().String())
	}
	n, err := New(Config{Listen: "127.0.0.1:0", Bootstrap: addresses, Passive: passive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// table makes nodes that know each other by way of the first one.
func table(t *testing.T, size int) []*Node {
	t.Helper()
	nodes := []*Node{node(t, false)}
	for len(nodes) < size {
		n := node(t, false, nodes[0])
		if err := n.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes { // a real table has time for that
		for len(n.pings) > 0 {
			time.Sleep(time.Millisecond)
		}
		if err := n.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

func find(t *testing.T, n *Node, id htlcdash.TitleID) (out []netip.AddrPort) {
	t.Helper()
	err := n.Find(t.Context(), id, func(a netip.AddrPort) bool {
		out = append(out, a)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// A viewer that knows one node of the table finds who sells a title, also when
// some of the nodes have gone.
func TestFind(t *testing.T) {
	nodes := table(t, 12)
	title, other := htlcdash.TitleID{1}, htlcdash.TitleID{2}
	for i, n := range nodes[3:6] {
		if err := n.AnnounceOnce(t.Context(), 8402+i, title); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes[1].AnnounceOnce(t.Context(), 9000, other); err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8402"), netip.MustParseAddrPort("127.0.0.1:8403"), netip.MustParseAddrPort("127.0.0.1:8404")}
	if got := find(t, node(t, true, nodes[11]), title); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	for _, n := range []int{2, 7, 9} {
		nodes[n].Close()
	}
	if got := find(t, node(t, true, nodes[11]), title); !slices.Equal(got, want) {
		t.Errorf("without three nodes: found %v, want %v", got, want)
	}
	if got := find(t, node(t, true, nodes[11]), htlcdash.TitleID{3}); len(got) != 0 {
		t.Errorf("found %v for a title that nobody sells", got)
	}
}

// Announce goes on until it reaches a node, and with titles that come later.
func TestAnnounceKeepsTrying(t *testing.T) {
	sleeping, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := sleeping.LocalAddr().String()
	n := node(t, false)
	if err := n.Know(address); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	title := htlcdash.TitleID{7}
	work.Go(func() { n.Announce(ctx, 8402, func() []htlcdash.TitleID { return []htlcdash.TitleID{title} }) })
	_ = sleeping.Close()
	late, err := New(Config{Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(late.Close)
	viewer := node(t, true, late)
	for ctx, done := context.WithTimeout(t.Context(), time.Minute); ; {
		if got := find(t, viewer, title); len(got) == 1 {
			done()
			return
		}
		select {
		case <-ctx.Done():
			done()
			t.Fatal("never announced")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestAlone(t *testing.T) {
	gone := node(t, false)
	gone.Close()
	for _, n := range []*Node{node(t, true), node(t, true, gone)} {
		err := n.Find(t.Context(), htlcdash.TitleID{1}, func(netip.AddrPort) bool { return true })
		if !errors.Is(err, ErrAlone) {
			t.Errorf("find: %v", err)
		}
		if err := n.AnnounceOnce(t.Context(), 1, htlcdash.TitleID{1}); !errors.Is(err, ErrAlone) {
			t.Errorf("announce: %v", err)
		}
		if err := n.Join(t.Context()); !errors.Is(err, ErrAlone) {
			t.Errorf("join: %v", err)
		}
	}
	if err := node(t, true).AnnounceOnce(t.Context(), 0, htlcdash.TitleID{1}); err == nil {
		t.Error("port 0 was announced")
	}
	for _, s := range []string{"host", ":1", "host:"} {
		if _, err := New(Config{Listen: "127.0.0.1:0", Bootstrap: []string{s}}); err == nil || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Addresses that could lead a viewer astray are not found.
func TestUsable(t *testing.T) {
	for _, c := range []struct {
		peer, teller string
		port         int
		want         bool
	}{
		{"192.0.2.1", "198.51.100.1", 80, true},
		{"::ffff:192.0.2.1", "198.51.100.1", 80, true},
		{"192.0.2.1", "198.51.100.1", 0, false},
		{"192.0.2.1", "198.51.100.1", 65536, false},
		{"127.0.0.1", "198.51.100.1", 80, false},
		{"127.0.0.1", "127.0.0.1", 80, true},
		{"10.0.0.1", "198.51.100.1", 80, false},
		{"10.0.0.1", "10.9.9.9", 80, true},
		{"169.254.169.254", "198.51.100.1", 80, false},
		{"169.254.169.254", "127.0.0.1", 80, false},
		{"0.0.0.0", "127.0.0.1", 80, false},
		{"224.0.0.1", "198.51.100.1", 80, false},
		{"::1", "198.51.100.1", 80, false},
	} {
		at, ok := usable(krpc.NodeAddr{IP: net.ParseIP(c.peer), Port: c.port}, netip.MustParseAddr(c.teller))
		if ok != c.want {
			t.Errorf("%s port %d from %s: %v, want %v", c.peer, c.port, c.teller, ok, c.want)
		}
		if ok && at.Addr().Is4In6() {
			t.Errorf("%v is mapped", at)
		}
	}
	if _, ok := usable(krpc.NodeAddr{Port: 80}, netip.Addr{}); ok {
		t.Error("no address is usable")
	}
}

// What strangers announce is bounded, forgotten, and one address cannot drive
// out others.
func TestPeersAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newPeers(func() time.Time { return now })
	target := metainfo.Hash{1}
	add := func(ip string, port int) { p.AddPeer(target, krpc.NodeAddr{IP: net.ParseIP(ip), Port: port}) }
	for port := 1; port <= 200; port++ {
		add("192.0.2.66", port)
	}
	if n := len(p.GetPeers(target)); n != maxOfAddress {
		t.Errorf("one address has %d entries", n)
	}
	for i := range 200 {
		now = now.Add(time.Second)
		add(fmt.Sprintf("198.51.100.%d", i), 80)
	}
	got := p.GetPeers(target)
	flood := 0
	for _, a := range got {
		if a.IP.String() == "192.0.2.66" {
			flood++
		}
	}
	if len(got) != maxPeers || flood > 1 {
		t.Errorf("%d peers, %d of who flooded", len(got), flood)
	}
	now = now.Add(peerLife)
	if n := len(p.GetPeers(target)); n != 0 || len(p.targets) != 0 || len(p.of) != 0 {
		t.Errorf("%d old peers, %d targets, %d addresses", n, len(p.targets), len(p.of))
	}

	for i := range 2 * maxTargets {
		p.AddPeer(metainfo.Hash{byte(i), byte(i >> 8), 1}, krpc.NodeAddr{IP: net.IPv4(203, 0, byte(i>>8), byte(i)), Port: 80})
	}
	if len(p.targets) != maxTargets {
		t.Errorf("%d targets", len(p.targets))
	}
	now = now.Add(peerLife)
	add("192.0.2.1", 80)
	if len(p.targets) != 1 {
		t.Errorf("%d targets after all are old", len(p.targets))
	}
	for i := range 2 * maxOfStranger {
		p.AddPeer(metainfo.Hash{byte(i), byte(i >> 8), 2}, krpc.NodeAddr{IP: net.IPv4(192, 0, 2, 9), Port: 80})
	}
	if n := p.of[netip.MustParseAddr("192.0.2.9")]; n != maxOfStranger {
		t.Errorf("one address has %d entries in all", n)
	}
}

// Any bytes may arrive; the node goes on.
func FuzzPacket(f *testing.F) {
	n, err := open(Config{Listen: "127.0.0.1:0"}, rate.Inf)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.Close)
	for _, s := range []string{
		"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
		"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
		"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
		"d1:q3:put1:t2:aa1:y1:qe", "d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re", "d", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		conn, err := net.Dial("udp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if len(packet) > 1400 {
			packet = packet[:1400]
		}
		if _, err := conn.Write(packet); err != nil {
			t.Skip("not sent: the kernel's queue is full")
		}
		ping := []byte("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:zz1:y1:qe")
		buf := make([]byte, 2048)
		for range 50 { // UDP loses packets under load
			if _, err := conn.Write(ping); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			for {
				k, err := conn.Read(buf)
				if err != nil {
					break
				}
				if strings.Contains(string(buf[:k]), "1:t2:zz") {
					return
				}
			}
		}
		t.Fatal("the node is silent")
	})
}

func BenchmarkFind(b *testing.B) {
	nodes := []*Node{}
	for i := range 20 {
		c := Config{Listen: "127.0.0.1:0"}
		if i > 0 {
			c.Bootstrap = []string{nodes[0].Addr().String()}
		}
		n, err := open(c, rate.Inf)
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		if i > 0 {
			if err := n.Join(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		nodes = append(nodes, n)
	}
	if err := nodes[5].AnnounceOnce(b.Context(), 8402, htlcdash.TitleID{1}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		first := false
		if err := nodes[15].Find(b.Context(), htlcdash.TitleID{1}, func(netip.AddrPort) bool { first = true; return false }); err != nil || !first {
			b.Fatal(err, first)
		}
	}
}

// liar answers every search with addresses that it made up.
func liar(t *testing.T, values []krpc.NodeAddr) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	id := krpc.RandomNodeID()
	go func() {
		token, buf := "t", make([]byte, 2048)
		for {
			k, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var q krpc.Msg
			if bencode.Unmarshal(buf[:k], &q) != nil || q.Y != krpc.YQuery {
				continue
			}
			answer := krpc.Msg{T: q.T, Y: krpc.YResponse, R: &krpc.Return{ID: id, Token: &token}}
			if q.Q == "get_peers" {
				answer.R.Values = values
			}
			if b, err := bencode.Marshal(answer); err == nil {
				_, _ = conn.WriteTo(b, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// A node that makes up addresses does not drown those that are announced.
func TestALiarDoesNotDrownOthers(t *testing.T) {
	nodes := table(t, 6)
	title := htlcdash.TitleID{1}
	if err := nodes[3].AnnounceOnce(t.Context(), 8402, title); err != nil {
		t.Fatal(err)
	}
	var made []krpc.NodeAddr
	for i := range 2 * MaxFound {
		made = append(made, krpc.NodeAddr{IP: net.IPv4(192, 0, 2, byte(i)), Port: 80})
	}
	viewer := node(t, true, nodes[5])
	if err := viewer.Know(liar(t, made)); err != nil {
		t.Fatal(err)
	}
	lies, truth := 0, false
	for _, at := range find(t, viewer, title) {
		if at.Addr().IsLoopback() {
			truth = true
		} else {
			lies++
		}
	}
	if !truth || lies == 0 || lies > perTeller {
		t.Errorf("%d lies, the truth: %v", lies, truth)
	}
}

// The first node of a table tells of what is sold at its own host.
func TestFirstNode(t *testing.T) {
	n, err := New(Config{Listen: "127.0.0.1:0", Self: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	title := htlcdash.TitleID{1}
	asked := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() {
		n.Announce(ctx, 8402, func() []htlcdash.TitleID {
			close(asked)
			return []htlcdash.TitleID{title}
		})
	})
	<-asked
	viewer := node(t, true, n)
	for ctx, done := context.WithTimeout(t.Context(), time.Minute); ; {
		if got := find(t, viewer, title); slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8402")}) {
			done()
			return
		}
		select {
		case <-ctx.Done():
			done()
			t.Fatal("it does not tell")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// As spec/13 says.
func TestTarget(t *testing.T) {
	var count htlcdash.TitleID
	for i := range count {
		count[i] = byte(i)
	}
	for id, want := range map[htlcdash.TitleID]string{{}: "9a90c43e8a03585d15a8b1527426d5bbb17b15c0", count: "fe7a0550e603c16e8a4ff1847f18073c6814a0c6"} {
		if got := Target(id); fmt.Sprintf("%x", got) != want {
			t.Errorf("%x, want %s", got, want)
		}
	}
}

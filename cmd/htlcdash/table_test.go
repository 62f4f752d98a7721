package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"

	"htlcdash"
	"htlcdash/internal/dht"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning/sim"
)

// dhtNodes are nodes of a table that know each other.
func dhtNodes(t *testing.T, n int) (nodes []*dht.Node) {
	t.Helper()
	for range n {
		c := dht.Config{Listen: "127.0.0.1:0"}
		if len(nodes) > 0 {
			c.Bootstrap = []string{nodes[0].Addr().String()}
		}
		node, err := dht.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		if len(nodes) > 0 {
			if err := node.Join(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// tells waits until a title's address is told by a table.
func tells(t *testing.T, by *dht.Node, id htlcdash.TitleID, address string) {
	t.Helper()
	asker, err := dht.New(dht.Config{Listen: "127.0.0.1:0", Passive: true, Bootstrap: []string{by.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	soon(t, "the table tells of "+address, func() (found bool) {
		_ = asker.Find(t.Context(), id, func(at netip.AddrPort) bool {
			found = found || "http://"+at.String() == address
			return !found
		})
		return found
	})
}

// lyingNode is a node of a table that names addresses of its own choice to all who
// ask.
func lyingNode(t *testing.T, values []krpc.NodeAddr) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	id, token := krpc.RandomNodeID(), "token"
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var q krpc.Msg
			if bencode.Unmarshal(buf[:n], &q) != nil || q.Y != krpc.YQuery {
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

func nodeAddr(t *testing.T, address string) krpc.NodeAddr {
	t.Helper()
	at, err := netip.ParseAddrPort(strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return krpc.NodeAddr{IP: at.Addr().AsSlice(), Port: int(at.Port())}
}

// A viewer that knows a title's id and one node of a distributed hash table plays,
// though half of its nodes are gone, and one names what is no provider, a provider
// of another title, addresses that nobody may ask, and one that never answers. The
// provider announces nothing elsewhere.
func TestPlayByTheTable(t *testing.T) {
	s := newStreet(t)
	nodes := dhtNodes(t, 10)
	first := nodes[0].Addr().String()
	shop, node, _ := s.serveAt(t, "shop", "--dht", "127.0.0.1:0", "--dht-bootstrap", first)
	tells(t, nodes[9], s.title.ID, shop)

	other := titletest.Make(t, titletest.Options{Segments: 2})
	stranger, strangerNode, _ := s.serveAt(t, "stranger", "--titles-folder", other.Dir)
	noProvider := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(noProvider.Close)
	liar := lyingNode(t, []krpc.NodeAddr{
		nodeAddr(t, stranger), nodeAddr(t, noProvider.URL), nodeAddr(t, deafDoor(t)),
		{IP: net.IPv4(169, 254, 169, 254), Port: 80},
		{IP: net.IPv4zero, Port: 80},
		{IP: net.IPv4(127, 0, 0, 1), Port: 1},
	})
	for _, gone := range nodes[1:6] {
		gone.Close()
	}
	events, says, err := s.playTitle(t, t.Context(), s.title.ID.String(), "--proxy-dht-bootstrap", liar+","+nodes[7].Addr().String())
	if err != nil || len(events) == 0 || events[len(events)-1].Event != "end" {
		t.Fatalf("%v\n%s", err, says)
	}
	s.network.Wait()
	for n, sold := range map[*sim.Node]bool{node: true, strangerNode: false} {
		if balance, err := n.Balance(t.Context()); err != nil || (balance.Outbound > 0) != sold {
			t.Errorf("a provider has %v, %v", balance.Outbound, err)
		}
	}
	if s.says(t, `"provider found","provider":"`+stranger) || s.says(t, `"provider found","provider":"`+noProvider.URL) {
		t.Error("who does not sell the title was taken for a provider")
	}
	_, _, err = s.playTitle(t, t.Context(), htlcdash.TitleID{9}.String(), "--proxy-dht-bootstrap", nodes[7].Addr().String())
	if !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("a title that nobody sells: %v", err)
	}
	nodes[7].Close()
	_, _, err = s.playTitle(t, t.Context(), s.title.ID.String(), "--proxy-dht-bootstrap", nodes[7].Addr().String())
	if !errors.Is(err, dht.ErrAlone) || !strings.Contains(err.Error(), "--proxy-dht-bootstrap") {
		t.Errorf("a table that is gone: %v", err)
	}
}

// The proxy finds a title, too, where its provider is the only node there is.
func TestProxyByTheTable(t *testing.T) {
	s := newStreet(t)
	s.serveAt(t, "shop", "--dht", "127.0.0.1:0")
	at := s.logField(t, "in the distributed hash table", "listen")
	s.play(t, "--dht-bootstrap", at, "--title", s.title.ID.String())
	s.watch(t, "v1")
}

func TestTablesThatCannotBe(t *testing.T) {
	s := newStreet(t)
	var usage usageError
	for _, args := range [][]string{{"--dht", "nowhere:x"}, {"--dht-bootstrap", "127.0.0.1:1"}, {"--dht", "127.0.0.1:0", "--dht-bootstrap", "x"}} {
		c := s.parse(t, append([]string{"serve"}, args...)...)
		if err := c.Serve.sell(t.Context(), door(t), nil, s.provider, s.provider.ID(), s.log); !errors.As(err, &usage) {
			t.Errorf("serve %v: %v", args, err)
		}
	}
	c := s.parse(t, "proxy", "--dht-bootstrap", "x")
	if err := c.Proxy.play(t.Context(), door(t), s.viewer, s.log); !errors.As(err, &usage) {
		t.Errorf("proxy: %v", err)
	}
}

// deafDoor takes connections and never answers.
func deafDoor(t *testing.T) string {
	t.Helper()
	l := door(t)
	t.Cleanup(func() { _ = l.Close() }) // connections wait in its queue
	return "http://" + l.Addr().String()
}

// logField waits for a line of the log and returns one of its fields.
func (s *street) logField(t *testing.T, message, field string) (value string) {
	t.Helper()
	soon(t, message, func() bool {
		for line := range strings.Lines(s.logged.String()) {
			if strings.Contains(line, message) {
				_, rest, _ := strings.Cut(line, `"`+field+`":"`)
				value, _, _ = strings.Cut(rest, `"`)
			}
		}
		return value != ""
	})
	return value
}

package network_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/lightningnetwork/lnd/lnrpc/routerrpc"
	"google.golang.org/grpc"

	"htlcdash/node/network"
)

// options are those of the built binaries.
func options(t *testing.T) network.Options {
	t.Helper()
	self, err := filepath.Abs("../../.build/bin/htlcdash-node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(self); err != nil {
		t.Fatalf("%v: run `make node`", err)
	}
	o := network.Binaries(self)
	o.Dir = t.TempDir()
	return o
}

// A session is a network and a program that talks to it.
type session struct {
	t      *testing.T
	in     io.WriteCloser
	events chan event
	ended  chan error
	ready  network.Ready
	lastID uint64
}

type event struct {
	Event, Name, Text, Error string
	ID                       uint64
	Result                   json.RawMessage
	raw                      json.RawMessage
}

func begin(t *testing.T, o network.Options) *session {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &session{t: t, in: inW, events: make(chan event, 1000), ended: make(chan error, 1)}
	go func() {
		err := network.Serve(context.WithoutCancel(t.Context()), o, inR, outW)
		outW.Close()
		s.ended <- err
	}()
	go func() {
		defer close(s.events)
		dec := json.NewDecoder(outR)
		for {
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return
			}
			e := event{raw: raw}
			_ = json.Unmarshal(raw, &struct{ *event }{&e}) // ready has an id of another type
			s.events <- e
		}
	}()
	t.Cleanup(func() { _ = s.end() })
	return s
}

// up begins a network and waits until it is ready.
func up(t *testing.T, o network.Options) *session {
	t.Helper()
	s := begin(t, o)
	if err := json.Unmarshal(s.next("ready").raw, &s.ready); err != nil {
		t.Fatal(err)
	}
	return s
}

// next waits for an event and skips others.
func (s *session) next(kind string) event {
	s.t.Helper()
	for e := range s.events {
		if e.Event == kind {
			return e
		}
		if e.Event != "progress" {
			s.t.Logf("while waiting for %s: %s", kind, e.raw)
		}
	}
	s.t.Fatalf("the network ended before %q", kind)
	panic("not reached")
}

// do sends a command and decodes the result of its answer.
func (s *session) do(c network.Command, result any) error {
	s.t.Helper()
	s.lastID++
	c.ID = s.lastID
	if err := json.NewEncoder(s.in).Encode(c); err != nil {
		s.t.Fatal(err)
	}
	a := s.next("answer")
	if a.ID != c.ID {
		s.t.Fatalf("answer %d to question %d", a.ID, c.ID)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

func (s *session) must(c network.Command, result any) {
	s.t.Helper()
	if err := s.do(c, result); err != nil {
		s.t.Fatalf("%+v: %v", c, err)
	}
}

func (s *session) end() error {
	s.in.Close()
	for range s.events {
	}
	err := <-s.ended
	s.ended <- err
	return err
}

func (s *session) node(name string) network.NodeInfo {
	i := slices.IndexFunc(s.ready.Nodes, func(n network.NodeInfo) bool { return n.Name == name })
	return s.ready.Nodes[i]
}

func (s *session) height() int64 {
	s.t.Helper()
	var now network.Ready
	s.must(network.Command{Command: "status"}, &now)
	return now.Chain.Height
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, n network.NodeInfo) *grpc.ClientConn {
	t.Helper()
	conn, err := network.DialNode(t.Context(), n.GRPC, n.Cert, n.Macaroon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// pay pays an invoice of one node from another and returns how often the
// payment was forwarded on its way.
func pay(t *testing.T, from, to *grpc.ClientConn, lastHopOnly ...uint64) (forwards int) {
	t.Helper()
	invoice, err := lnrpc.NewLightningClient(to).AddInvoice(t.Context(), &lnrpc.Invoice{ValueMsat: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := routerrpc.NewRouterClient(from).SendPaymentV2(t.Context(), &routerrpc.SendPaymentRequest{
		PaymentRequest: invoice.PaymentRequest, TimeoutSeconds: 60, FeeLimitMsat: 1000,
		NoInflightUpdates: true, OutgoingChanIds: lastHopOnly,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if p.Status != lnrpc.Payment_SUCCEEDED {
		t.Fatalf("payment: %v, %v", p.Status, p.FailureReason)
	}
	return len(p.Htlcs[len(p.Htlcs)-1].Route.Hops) - 1
}

// TestLife lives through a network: made, used, its daemons killed one after
// another, ended, and begun again from its folder.
func TestLife(t *testing.T) {
	o := options(t)
	s := up(t, o)
	if !s.ready.Fresh || len(s.ready.Nodes) != 3 || len(s.ready.Channels) != 3 {
		t.Fatalf("ready: %+v", s.ready)
	}
	for _, c := range s.ready.Channels {
		if !c.Active || c.Capacity != 10_000_000 || c.Remote != 1_000_000 {
			t.Errorf("channel: %+v", c)
		}
	}
	payBothWays(t, s)

	for _, name := range []string{"viewer", "router", "provider"} {
		kill(t, s.node(name).PID)
		if e := s.next("died"); e.Name != name || !strings.Contains(e.Text, "was killed by signal 9") {
			t.Errorf("death: %s", e.raw)
		}
		if err := s.do(network.Command{Command: "balance", Node: name}, nil); err == nil || !strings.Contains(err.Error(), "not running") {
			t.Errorf("balance of a dead node: %v", err)
		}
		s.must(network.Command{Command: "mine", Blocks: 1}, nil) // for the others
		s.must(network.Command{Command: "restart", Node: name}, nil)
	}
	s.must(network.Command{Command: "kill", Node: "router"}, nil)
	s.must(network.Command{Command: "stop", Node: "viewer"}, nil)
	s.must(network.Command{Command: "restart", Node: "router"}, nil)
	s.must(network.Command{Command: "restart", Node: "viewer"}, nil)

	before := s.height()
	kill(t, s.ready.Chain.PID)
	if e := s.next("died"); e.Name != "chain" || !strings.Contains(e.Text, "btcd was killed by signal 9") {
		t.Errorf("death: %s", e.raw)
	}
	s.must(network.Command{Command: "mine", Blocks: 1}, nil)
	if h := s.height(); h <= before {
		t.Errorf("the chain went from %d to %d", before, h)
	}
	payBothWays(t, s)
	before = s.height()
	if err := s.end(); err != nil {
		t.Errorf("end: %v", err)
	}

	again := up(t, o)
	if again.ready.Fresh || again.ready.Chain.Height < before || again.node("viewer").ID != s.node("viewer").ID {
		t.Errorf("second run, after height %d: %+v", before, again.ready)
	}
	payBothWays(t, again)
	var carol network.NodeInfo
	again.must(network.Command{Command: "add", NodeSpec: &network.NodeSpec{Name: "carol", DB: "sqlite", Fund: 5_000_000}}, &carol)
	again.must(network.Command{Command: "open", ChannelSpec: &network.ChannelSpec{From: "carol", To: "viewer", Capacity: 1_000_000, Private: true}}, nil)
	if pay(t, dial(t, carol), dial(t, again.node("provider"))) == 0 {
		t.Error("carol has no channel with the provider")
	}
}

// payBothWays pays from viewer to provider directly and over the router.
func payBothWays(t *testing.T, s *session) {
	t.Helper()
	viewer, provider := dial(t, s.node("viewer")), dial(t, s.node("provider"))
	for _, c := range s.ready.Channels {
		if c.From != "viewer" {
			continue
		}
		want := map[string]int{"provider": 0, "router": 1}[c.To]
		if got := pay(t, viewer, provider, c.ID); got != want {
			t.Errorf("over the channel to %s: %d forwards, want %d", c.To, got, want)
		}
	}
}

func TestCommandsRefused(t *testing.T) {
	o := options(t)
	o.Spec = network.Spec{Nodes: []network.NodeSpec{{Name: "alone"}}}
	s := up(t, o)
	tests := []struct {
		name    string
		command network.Command
		want    string
	}{
		{"unknown", network.Command{Command: "dance", Node: "alone"}, "not known"},
		{"unknown node", network.Command{Command: "kill", Node: "bob"}, "not of this network"},
		{"no blocks", network.Command{Command: "mine"}, "1 to 10000"},
		{"address of another chain", network.Command{Command: "send", Address: "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Amount: 1}, "simnet"},
		{"second node of a name", network.Command{Command: "add", NodeSpec: &network.NodeSpec{Name: "alone"}}, "twice"},
		{"node with a bad flag", network.Command{Command: "add", NodeSpec: &network.NodeSpec{Name: "bob", Flags: []string{"--nonsense"}}}, "unknown flag `nonsense'"},
		{"channel to nobody", network.Command{Command: "open", ChannelSpec: &network.ChannelSpec{From: "alone", To: "bob", Capacity: 100_000}}, "not of this network"},
		{"channel without coins", network.Command{Command: "open"}, "no channel_spec"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.do(tt.command, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	tests := []struct {
		name string
		do   func(*network.Options)
		want string
	}{
		{"without btcd", func(o *network.Options) { o.Btcd = "/nowhere/btcd" }, "make node"},
		{"without a folder", func(o *network.Options) { o.Dir = "" }, "no data folder"},
		{"with a flag that lnd does not know", func(o *network.Options) {
			o.Spec = network.Spec{Nodes: []network.NodeSpec{{Name: "a", Flags: []string{"--nonsense"}}}}
		}, "unknown flag `nonsense'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t)
			tt.do(&o)
			s := begin(t, o)
			if e := s.next("failed"); !strings.Contains(e.Text, tt.want) {
				t.Errorf("last words %q, want some with %q", e.Text, tt.want)
			}
			if err := s.end(); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestLight has an lnd without a Bitcoin node sync from our btcd's filters, get
// coins, open a channel, and pay over it.
func TestLight(t *testing.T) {
	o := options(t)
	o.Spec = network.Spec{Nodes: []network.NodeSpec{{Name: "provider"}}}
	s := up(t, o)
	light := startLight(t, o.Self, s.ready.Chain.P2P)
	conn := dial(t, light)
	lnd := lnrpc.NewLightningClient(conn)
	provider := s.node("provider")

	address, err := lnd.NewAddress(t.Context(), &lnrpc.NewAddressRequest{Type: lnrpc.AddressType_TAPROOT_PUBKEY})
	if err != nil {
		t.Fatal(err)
	}
	s.must(network.Command{Command: "send", Address: address.Address, Amount: 2_000_000}, nil)
	wait(t, "its coins", func() error {
		b, err := lnd.WalletBalance(t.Context(), &lnrpc.WalletBalanceRequest{})
		if err == nil && b.ConfirmedBalance != 2_000_000 {
			err = fmt.Errorf("balance: %v", b)
		}
		return err
	})
	_, err = lnd.ConnectPeer(t.Context(), &lnrpc.ConnectPeerRequest{Addr: &lnrpc.LightningAddress{Pubkey: provider.ID, Host: provider.P2P}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(provider.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lnd.OpenChannelSync(t.Context(), &lnrpc.OpenChannelRequest{NodePubkey: key, LocalFundingAmount: 1_000_000, SatPerVbyte: 5, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "its channel", func() error {
		s.must(network.Command{Command: "mine", Blocks: 1}, nil)
		for _, end := range []lnrpc.LightningClient{lnd, lnrpc.NewLightningClient(dial(t, provider))} {
			list, err := end.ListChannels(t.Context(), &lnrpc.ListChannelsRequest{ActiveOnly: true})
			if err != nil {
				return err
			}
			if len(list.Channels) != 1 {
				return errors.New("not active at both ends")
			}
		}
		// Until its own terms are in its graph, lnd fails a payment for "insufficient balance".
		graph, err := lnd.DescribeGraph(t.Context(), &lnrpc.ChannelGraphRequest{IncludeUnannounced: true})
		if err == nil && (len(graph.Edges) != 1 || graph.Edges[0].Node1Policy == nil || graph.Edges[0].Node2Policy == nil) {
			err = errors.New("not in its graph")
		}
		return err
	})
	if pay(t, conn, dial(t, provider)) != 0 {
		t.Error("the payment was forwarded")
	}
}

func startLight(t *testing.T, binary, peer string) network.NodeInfo {
	t.Helper()
	rest, grpcAddr := freeAddress(t), freeAddress(t)
	cmd := exec.Command(binary, "light", "--dir", t.TempDir(), "--network", "simnet", "--peer", peer,
		"--rest", rest, "--grpc", grpcAddr, "--", "--nobootstrap", "--bitcoin.defaultchanconfs=1")
	cmd.Env = append(os.Environ(), network.EnvFastScrypt+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("light client: %v", err)
		}
	})
	dec := json.NewDecoder(out)
	for {
		var ready network.LightReady
		if err := dec.Decode(&ready); err != nil {
			t.Fatalf("light client ended: %v", err)
		}
		if ready.Event == "ready" {
			return ready.Node
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	f, err := network.OpenFolder(t.TempDir(), network.Spec{Nodes: []network.NodeSpec{{Name: "light"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.NodePorts("light").REST
}

// wait asks a daemon that tells nobody when it is done.
func wait(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestStuckStart starts a node whose first process never gets ready.
func TestStuckStart(t *testing.T) {
	t.Cleanup(network.SetStartPatience(15 * time.Second))
	o := options(t)
	stuck := filepath.Join(t.TempDir(), "lnd")
	script := fmt.Sprintf("#!/bin/sh\n[ -e %[1]s.ran ] && exec %[2]s \"$@\"\ntouch %[1]s.ran; exec sleep 1000\n", stuck, o.Self)
	if err := os.WriteFile(stuck, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	o.Self = stuck
	o.Spec = network.Spec{Nodes: []network.NodeSpec{{Name: "alone"}}}
	s := up(t, o)
	if len(s.ready.Nodes) != 1 || s.ready.Nodes[0].PID == 0 {
		t.Errorf("got %+v", s.ready.Nodes)
	}
}

package network

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// EnvFastScrypt, set to 1, lets `lnd` stretch its wallet's password less, on a
// private network only. That saves 3 s of work for each node at its start.
const EnvFastScrypt = "HTLCDASH_FAST_SCRYPT"

// A node is one lnd. Its mutex is held while it starts or stops.
type node struct {
	NodeSpec
	dir   string
	ports Ports
	chain *chain
	self  string // our own executable

	mu   sync.Mutex
	proc *process // nil before the first start
	conn *grpc.ClientConn
	rpc  lnrpc.LightningClient
	id   string
}

func (n *node) certFile() string { return filepath.Join(n.dir, "tls.cert") }
func (n *node) logFile() string  { return filepath.Join(n.dir, "lnd.log") }
func (n *node) macaroonFile() string {
	return filepath.Join(n.dir, "data", "chain", "bitcoin", "simnet", "admin.macaroon")
}

// commonFlags make lnd quick on a private chain: announcements after 3 blocks
// and within milliseconds, no bootstrap, no health checks that end the daemon.
// Macaroons and RPC middleware are on, as on a real node.
var commonFlags = []string{
	"--bitcoin.simnet", "--noseedbackup", "--nobootstrap", "--debuglevel=warn", "--logging.file.disable",
	"--tlsautorefresh", "--tlsdisableautofill", "--rpcmiddleware.enable",
	"--trickledelay=50", "--gossip.sub-batch-delay=5ms", "--gossip.channel-update-interval=10ms",
	"--gossip.max-channel-update-burst=1000", "--gossip.announcement-conf=3", "--caches.rpc-graph-cache-duration=0",
	"--db.batch-commit-interval=10ms", "--minbackoff=200ms", "--maxbackoff=1s", "--maxpendingchannels=20",
	"--bitcoin.defaultchanconfs=1", "--bitcoin.minhtlcout=1", "--bitcoin.minhtlc=1",
	"--protocol.wumbo-channels", "--protocol.option-scid-alias", "--protocol.zero-conf",
	"--healthcheck.chainbackend.attempts=0", "--healthcheck.diskspace.attempts=0", "--healthcheck.tls.attempts=0",
}

// databaseFlags halve the time of a payment on sqlite, and spare bolt a sync.
var databaseFlags = map[string][]string{
	"":       {"--db.backend=bolt", "--db.bolt.nofreelistsync"},
	"bolt":   {"--db.backend=bolt", "--db.bolt.nofreelistsync"},
	"sqlite": {"--db.backend=sqlite", "--channel-commit-interval=5ms"},
}

// autopilotFlags leave lnd's autopilot off. Once switched on by RPC it follows
// the scores that it is given, and it is modest.
var autopilotFlags = []string{
	"--autopilot.heuristic=externalscore:1.0", "--autopilot.maxchannels=4", "--autopilot.allocation=0.2",
	"--autopilot.minchansize=200000", "--autopilot.maxchansize=5000000", "--autopilot.minconfs=1",
}

func (n *node) flags() []string {
	flags := []string{
		"--lnddir=" + n.dir, "--alias=" + n.Name,
		"--listen=" + n.ports.P2P, "--externalip=" + n.ports.P2P,
		"--rpclisten=" + n.ports.RPC, "--restlisten=" + n.ports.REST,
		"--bitcoin.basefee=" + strconv.FormatInt(n.BaseFee, 10), "--bitcoin.feerate=" + strconv.FormatInt(n.FeeRate, 10),
		"--bitcoin.node=btcd", "--btcd.rpchost=" + n.chain.rpc, "--btcd.rpcuser=" + rpcUser,
		"--btcd.rpcpass=" + rpcPass, "--btcd.rpccert=" + n.chain.certFile(),
	}
	flags = append(flags, commonFlags...)
	flags = append(flags, databaseFlags[n.DB]...)
	flags = append(flags, autopilotFlags...)
	return append(flags, n.Flags...)
}

// start runs lnd and waits until it takes all calls. died is told when it ends
// unasked.
func (n *node) start(ctx context.Context, died func(*process)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc.alive() {
		return nil
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	proc, err := spawn(n.Name, "lnd "+n.Name, n.logFile(), append([]string{n.self, "lnd"}, n.flags()...)...)
	if err != nil {
		return err
	}
	n.proc = proc
	ctx, cancel := proc.during(ctx)
	defer cancel()
	if err := n.connect(ctx); err != nil {
		proc.kill()
		return err
	}
	go func() {
		<-proc.exited
		if !proc.wanted.Load() {
			died(proc)
		}
	}()
	return nil
}

// connect waits for lnd's certificate, its RPC and its identity.
func (n *node) connect(ctx context.Context) error {
	err := until(ctx, func() error { _, err := os.Stat(n.certFile()); return err })
	if err != nil {
		return err
	}
	if n.conn != nil {
		n.conn.Close()
	}
	n.conn, err = dialNode(n.ports.RPC, n.certFile(), n.macaroonFile())
	if err != nil {
		return err
	}
	n.rpc = lnrpc.NewLightningClient(n.conn)
	if err := until(ctx, func() error { return active(ctx, n.conn) }); err != nil {
		return fmt.Errorf("lnd %s: %w", n.Name, err)
	}
	info, err := n.rpc.GetInfo(ctx, &lnrpc.GetInfoRequest{})
	if err != nil {
		return fmt.Errorf("lnd %s: %w", n.Name, err)
	}
	n.id = info.IdentityPubkey
	return nil
}

func dialNode(address, cert, macaroon string) (*grpc.ClientConn, error) {
	creds, err := credentials.NewClientTLSFromFile(cert, "")
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", cert, err)
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithPerRPCCredentials(macaroonFile(macaroon)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
}

// active returns nil once lnd has unlocked its wallet and started its server.
func active(ctx context.Context, conn *grpc.ClientConn) error {
	conn.ResetConnectBackoff()
	state, err := lnrpc.NewStateClient(conn).GetState(ctx, &lnrpc.GetStateRequest{})
	if err != nil {
		return err
	}
	if state.State != lnrpc.WalletState_SERVER_ACTIVE {
		return fmt.Errorf("state %v", state.State)
	}
	return nil
}

// macaroonFile sends the macaroon in a file with each call, and nothing while
// lnd has not made it yet.
type macaroonFile string

func (f macaroonFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return map[string]string{"macaroon": hex.EncodeToString(b)}, err
}

func (macaroonFile) RequireTransportSecurity() bool { return true }

// running returns the client of a node that runs.
func (n *node) running() (lnrpc.LightningClient, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.proc.alive() || n.rpc == nil {
		return nil, fmt.Errorf("node %q: not running", n.Name)
	}
	return n.rpc, nil
}

func (n *node) stop(grace time.Duration) { n.end(func() { n.proc.stop(grace) }) }
func (n *node) kill()                    { n.end(func() { n.proc.kill() }) }

func (n *node) end(how func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	how()
	if n.conn != nil {
		n.conn.Close()
		n.conn, n.rpc = nil, nil
	}
}

func (n *node) info() NodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := NodeInfo{
		Name: n.Name, ID: n.id, REST: "https://" + n.ports.REST, GRPC: n.ports.RPC, P2P: n.ports.P2P,
		Cert: n.certFile(), Macaroon: n.macaroonFile(), Log: n.logFile(),
	}
	if n.proc.alive() {
		info.PID = n.proc.cmd.Process.Pid
	}
	return info
}

// synced waits until n has seen block height.
func (n *node) synced(ctx context.Context, height int64) error {
	rpc, err := n.running()
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		info, err := rpc.GetInfo(ctx, &lnrpc.GetInfoRequest{})
		if err != nil {
			return err
		}
		if !info.SyncedToChain || int64(info.BlockHeight) < height {
			return fmt.Errorf("lnd %s: at block %d of %d, synced: %t", n.Name, info.BlockHeight, height, info.SyncedToChain)
		}
		return nil
	})
}

// balance adds up the node's money.
func (n *node) balance(ctx context.Context) (b Balance, err error) {
	rpc, err := n.running()
	if err != nil {
		return b, err
	}
	wallet, err := rpc.WalletBalance(ctx, &lnrpc.WalletBalanceRequest{})
	if err != nil {
		return b, fmt.Errorf("lnd %s: %w", n.Name, err)
	}
	channels, err := rpc.ChannelBalance(ctx, &lnrpc.ChannelBalanceRequest{})
	if err != nil {
		return b, fmt.Errorf("lnd %s: %w", n.Name, err)
	}
	return Balance{
		Wallet: wallet.ConfirmedBalance, Unconfirmed: wallet.UnconfirmedBalance,
		Local: int64(channels.LocalBalance.GetSat()), Remote: int64(channels.RemoteBalance.GetSat()),
	}, nil
}

package network

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// A node is one lnd.
type node struct {
	NodeSpec
	dir   string
	ports Ports
	chain *chain
	self  string // our own executable

	starting sync.Mutex // one start at a time

	mu   sync.Mutex // guards what follows, and is held for moments only
	proc *process   // nil before the first start
	rpc  lnrpc.LightningClient
	id   string // empty before the first start
}

func (n *node) certFile() string { return filepath.Join(n.dir, "tls.cert") }
func (n *node) logFile() string  { return filepath.Join(n.dir, "lnd.log") }
func (n *node) macaroonFile() string {
	return filepath.Join(n.dir, "data", "chain", "bitcoin", "simnet", "admin.macaroon")
}

// anyFlags are for every lnd of ours, light clients of real networks included:
// RPC middleware for budgets in macaroons, certificates that do not change with
// the machine's addresses, channels that work before their first block, and an
// autopilot that is off and, once switched on by RPC, follows the scores that it
// is given.
var anyFlags = []string{
	"--rpcmiddleware.enable", "--tlsautorefresh", "--tlsdisableautofill",
	"--protocol.wumbo-channels", "--protocol.option-scid-alias", "--protocol.zero-conf", "--bitcoin.minhtlc=1",
	"--autopilot.heuristic=externalscore:1.0", "--autopilot.maxchannels=4", "--autopilot.allocation=0.2",
	"--autopilot.minchansize=200000", "--autopilot.maxchansize=5000000", "--autopilot.minconfs=1",
}

// quickFlags are for a private chain: announcements after 3 blocks and within
// milliseconds, no bootstrap, no health checks that end the daemon.
var quickFlags = []string{
	"--bitcoin.simnet", "--noseedbackup", "--nobootstrap", "--debuglevel=warn", "--logging.file.disable",
	"--trickledelay=50", "--gossip.sub-batch-delay=5ms", "--gossip.channel-update-interval=10ms",
	"--gossip.max-channel-update-burst=1000", "--gossip.announcement-conf=3", "--caches.rpc-graph-cache-duration=0",
	"--db.batch-commit-interval=10ms", "--minbackoff=200ms", "--maxbackoff=1s", "--maxpendingchannels=20",
	"--bitcoin.defaultchanconfs=1", "--bitcoin.minhtlcout=1",
	"--healthcheck.chainbackend.attempts=0", "--healthcheck.diskspace.attempts=0", "--healthcheck.tls.attempts=0",
}

// sqliteFlags halve the time of a payment, boltFlags spare a sync.
var (
	sqliteFlags = []string{"--db.backend=sqlite", "--channel-commit-interval=5ms"}
	boltFlags   = []string{"--db.backend=bolt", "--db.bolt.nofreelistsync"}
)

func (n *node) flags() []string {
	database := boltFlags
	if n.DB == "sqlite" {
		database = sqliteFlags
	}
	return slices.Concat([]string{
		"--lnddir=" + n.dir, "--alias=" + n.Name,
		"--listen=" + n.ports.P2P, "--externalip=" + n.ports.P2P,
		"--rpclisten=" + n.ports.RPC, "--restlisten=" + n.ports.REST,
		"--bitcoin.basefee=" + strconv.FormatInt(n.BaseFee, 10), "--bitcoin.feerate=" + strconv.FormatInt(n.FeeRate, 10),
		"--bitcoin.node=btcd", "--btcd.rpchost=" + n.chain.ports.RPC, "--btcd.rpcuser=" + rpcUser,
		"--btcd.rpcpass=" + rpcPass, "--btcd.rpccert=" + n.chain.certFile(),
	}, anyFlags, quickFlags, database, n.Flags)
}

// startPatience is how long lnd may take to start before it is started anew.
// Its wallet loses a block that comes in the moment in which it ends its first
// look at the chain, takes no other after it, and waits for ever for the one that
// it lost. A block comes seldom, so a second start has none in its way.
var startPatience = 50 * time.Second

// start runs lnd and waits until it takes all calls. died is told when it ends
// unasked.
func (n *node) start(ctx context.Context, died func(*process)) error {
	n.starting.Lock()
	defer n.starting.Unlock()
	if n.process().alive() {
		return nil
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	for {
		proc, conn, err := n.launch(ctx)
		switch {
		case err == nil:
			go func() {
				<-proc.exited
				conn.Close()
				if !proc.wanted.Load() {
					died(proc)
				}
			}()
			return nil
		case ctx.Err() != nil || !errors.Is(err, errStuck):
			return fmt.Errorf("lnd %s: %w", n.Name, err)
		}
	}
}

var errStuck = errors.New("not ready in time")

// launch runs lnd once. The error matches errStuck when it did not start within
// startPatience. After an error it does not run.
func (n *node) launch(ctx context.Context) (*process, *grpc.ClientConn, error) {
	proc, err := spawn(n.Name, "lnd "+n.Name, n.logFile(), append([]string{n.self, "lnd"}, n.flags()...)...)
	if err != nil {
		return nil, nil, err
	}
	n.set(proc, nil, "")
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errStuck)
	defer cancel()
	ctx, end := proc.during(ctx)
	defer end()
	conn, id, err := n.connect(ctx)
	if err != nil {
		proc.stop(lndGrace)
		return nil, nil, err
	}
	n.set(proc, lnrpc.NewLightningClient(conn), id)
	return proc, conn, nil
}

// connect waits for lnd's RPC and asks for its identity.
func (n *node) connect(ctx context.Context) (*grpc.ClientConn, string, error) {
	conn, err := dialNode(ctx, n.ports.RPC, n.certFile(), n.macaroonFile())
	if err != nil {
		return nil, "", err
	}
	if err := until(ctx, func() error { return active(ctx, conn) }); err != nil {
		conn.Close()
		return nil, "", err
	}
	info, err := lnrpc.NewLightningClient(conn).GetInfo(ctx, &lnrpc.GetInfoRequest{})
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, info.IdentityPubkey, nil
}

func (n *node) set(proc *process, rpc lnrpc.LightningClient, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc, n.rpc, n.id = proc, rpc, cmp.Or(id, n.id)
}

func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

func (n *node) identity() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// dialNode waits until lnd has written its certificate.
func dialNode(ctx context.Context, address, cert, macaroon string) (*grpc.ClientConn, error) {
	var creds credentials.TransportCredentials
	err := until(ctx, func() (err error) {
		creds, err = credentials.NewClientTLSFromFile(cert, "")
		return err
	})
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

func (n *node) stop(grace time.Duration) { n.process().stop(grace) }
func (n *node) kill()                    { n.process().kill() }

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

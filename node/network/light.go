package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lightningnetwork/lnd/lnrpc"
	"google.golang.org/grpc"
)

// A Light is an lnd that is its own light client (neutrino, BIP 157): it needs
// no Bitcoin node, only peers with compact filters.
type Light struct {
	Dir   string   // data folder: lnd's, and our password and seed files
	Chain string   // "mainnet", "signet", "testnet", "testnet4", "regtest", "simnet"
	Peers []string // host:port; none: found by DNS
	Alias string
	REST  string   // host:port
	GRPC  string   // host:port
	P2P   string   // host:port to listen on; empty: not at all
	Flags []string // further flags of lnd
}

// NewLight returns what a Light is unless told otherwise.
func NewLight() Light {
	return Light{Chain: "mainnet", Alias: "htlcdash", REST: "127.0.0.1:8480", GRPC: "127.0.0.1:10409"}
}

// LightReady tells that a light client takes all calls and knows the chain.
type LightReady struct {
	Event  string   `json:"event"` // "ready"
	Height int64    `json:"height"`
	Node   NodeInfo `json:"node"`
}

var chains = []string{"mainnet", "signet", "testnet", "testnet4", "regtest", "simnet"}

// Prepare makes the data folder and returns the flags of lnd.
func (l *Light) Prepare() ([]string, error) {
	if l.Dir == "" {
		return nil, errors.New("light client: no data folder given")
	}
	if !slices.Contains(chains, l.Chain) {
		return nil, fmt.Errorf("light client: network %q is none of %s", l.Chain, strings.Join(chains, ", "))
	}
	if l.private() && len(l.Peers) == 0 {
		return nil, fmt.Errorf("light client: %s is private: give at least one peer", l.Chain)
	}
	var err error
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("light client: %w", err)
	}
	flags := []string{
		"--lnddir=" + l.Dir, "--alias=" + l.Alias, "--bitcoin." + l.Chain, "--bitcoin.node=neutrino",
		"--rpclisten=" + l.GRPC, "--restlisten=" + l.REST, "--logging.console.disable", "--debuglevel=info",
	}
	for _, p := range l.Peers {
		flags = append(flags, "--neutrino.connect="+p)
	}
	if l.P2P == "" {
		flags = append(flags, "--nolisten")
	} else {
		flags = append(flags, "--listen="+l.P2P)
	}
	if l.private() {
		flags = append(flags, "--noseedbackup", "--nobootstrap")
	} else {
		if err := l.makePassword(); err != nil {
			return nil, err
		}
		flags = append(flags, "--wallet-unlock-password-file="+l.passwordFile(), "--wallet-unlock-allow-create")
	}
	return slices.Concat(flags, anyFlags, sqliteFlags, l.Flags), nil
}

// private reports whether coins there are worth nothing, so that a wallet needs
// neither password nor seed.
func (l *Light) private() bool { return l.Chain == "simnet" || l.Chain == "regtest" }

func (l *Light) passwordFile() string { return filepath.Join(l.Dir, "wallet-password") }
func (l *Light) seedFile() string     { return filepath.Join(l.Dir, "wallet-seed") }
func (l *Light) certFile() string     { return filepath.Join(l.Dir, "tls.cert") }
func (l *Light) macaroonFile() string {
	return filepath.Join(l.Dir, "data", "chain", "bitcoin", l.Chain, "admin.macaroon")
}

// makePassword makes a password for the wallet, once.
func (l *Light) makePassword() error {
	err := writeSecret(l.passwordFile(), rand.Text())
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// writeSecret makes a file that only its owner reads, and that must not exist.
func writeSecret(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("light client: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("light client: %s: %w", file, err)
	}
	return nil
}

// Watch writes to out, as JSON lines, how far lnd is: progress, then
// [LightReady], or why it cannot be watched. It returns then, or when ctx ends.
func (l *Light) Watch(ctx context.Context, out io.Writer) {
	lines := &lines{enc: json.NewEncoder(out)}
	ready, err := l.watch(ctx, func(step, text string) { lines.write(Progress{Event: "progress", Step: step, Text: text}) })
	switch {
	case err == nil:
		lines.write(ready)
	case ctx.Err() == nil:
		lines.write(failed{"failed", err.Error()})
	}
}

func (l *Light) watch(ctx context.Context, tell func(step, text string)) (*LightReady, error) {
	tell("start", "starting")
	conn, err := dialNode(ctx, l.GRPC, l.certFile(), l.macaroonFile())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := l.awaitActive(ctx, conn, tell); err != nil {
		return nil, err
	}
	var info *lnrpc.GetInfoResponse
	last := ""
	err = until(ctx, func() (err error) {
		if info, err = lnrpc.NewLightningClient(conn).GetInfo(ctx, &lnrpc.GetInfoRequest{}); err != nil || info.SyncedToChain {
			return err
		}
		if text := fmt.Sprintf("at block %d", info.BlockHeight); text != last {
			last = text
			tell("chain", text)
		}
		return errors.New("not synced yet")
	})
	if err != nil {
		return nil, err
	}
	return &LightReady{Event: "ready", Height: int64(info.BlockHeight), Node: NodeInfo{
		Name: l.Alias, ID: info.IdentityPubkey, REST: "https://" + l.REST, GRPC: l.GRPC, P2P: l.P2P,
		Cert: l.certFile(), Macaroon: l.macaroonFile(), PID: os.Getpid(),
		Log: filepath.Join(l.Dir, "logs", "bitcoin", l.Chain, "lnd.log"),
	}}, nil
}

// awaitActive waits until lnd takes all calls, and makes its wallet if it has
// none.
func (l *Light) awaitActive(ctx context.Context, conn *grpc.ClientConn, tell func(step, text string)) error {
	texts := map[lnrpc.WalletState]string{
		lnrpc.WalletState_WAITING_TO_START: "opening the databases; making them takes about ten seconds",
		lnrpc.WalletState_NON_EXISTING:     "making a wallet",
		lnrpc.WalletState_LOCKED:           "opening the wallet",
		lnrpc.WalletState_RPC_ACTIVE:       "fetching block headers and filters",
	}
	last, made := "", false
	return until(ctx, func() error {
		conn.ResetConnectBackoff()
		state, err := lnrpc.NewStateClient(conn).GetState(ctx, &lnrpc.GetStateRequest{})
		if err != nil {
			return err
		}
		if text := texts[state.State]; text != "" && text != last {
			last = text
			tell("wallet", text)
		}
		if state.State == lnrpc.WalletState_NON_EXISTING && !made && !l.private() {
			made = true
			tell("wallet", "the wallet's seed is kept in "+l.seedFile())
			if err := l.makeWallet(ctx, lnrpc.NewWalletUnlockerClient(conn)); err != nil {
				tell("wallet", err.Error())
			}
		}
		if state.State != lnrpc.WalletState_SERVER_ACTIVE {
			return fmt.Errorf("state %v", state.State)
		}
		return nil
	})
}

// makeWallet makes a wallet whose seed is on disk before the first coin can be
// received. Where a seed is already, its wallet was lost: it is made again.
func (l *Light) makeWallet(ctx context.Context, unlocker lnrpc.WalletUnlockerClient) error {
	password, err := os.ReadFile(l.passwordFile())
	if err != nil {
		return fmt.Errorf("light client: %w", err)
	}
	request := &lnrpc.InitWalletRequest{WalletPassword: bytes.TrimSpace(password)}
	seed, err := os.ReadFile(l.seedFile())
	switch {
	case err == nil:
		const addresses = 2500 // lnd's own advice on how far ahead to look for coins
		request.CipherSeedMnemonic, request.RecoveryWindow = strings.Fields(string(seed)), addresses
	case errors.Is(err, os.ErrNotExist):
		fresh, err := unlocker.GenSeed(ctx, &lnrpc.GenSeedRequest{})
		if err != nil {
			return fmt.Errorf("light client: make seed: %w", err)
		}
		if err := writeSecret(l.seedFile(), strings.Join(fresh.CipherSeedMnemonic, " ")); err != nil {
			return err
		}
		request.CipherSeedMnemonic = fresh.CipherSeedMnemonic
	default:
		return fmt.Errorf("light client: %w", err)
	}
	if _, err := unlocker.InitWallet(ctx, request); err != nil {
		return fmt.Errorf("light client: make wallet: %w", err)
	}
	return nil
}

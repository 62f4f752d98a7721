package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil"
	"github.com/btcsuite/btcd/chaincfg"
	"github.com/btcsuite/btcd/chaincfg/chainhash"
	"github.com/btcsuite/btcd/txscript"
	"github.com/btcsuite/btcd/wire"
)

const (
	// firstBlocks are mined into a fresh chain: 300 until segwit and taproot
	// are active on simnet, 100 until a coinbase can be spent, and some to spend.
	firstBlocks = 450
	maturity    = 100
	subsidy     = 50 * btcutil.SatoshiPerBitcoin
	// staleTip is when a tip is old enough that lnd soon calls itself not
	// synced, which it does after two hours.
	staleTip = time.Hour
	// The chain is worth nothing and listens on loopback only: the password is
	// no secret, btcd merely insists on one.
	rpcUser = "htlcdash"
	rpcPass = "htlcdash"
)

// A chain is a btcd on simnet, and the miner that owns all its first coins.
type chain struct {
	dir     string
	ports   Ports
	rpc     *btcdRPC
	key     *btcec.PrivateKey
	address btcutil.Address
	script  []byte
	log     *blockLog

	mu   sync.Mutex // held while the process starts, mines or spends
	proc *process   // nil before the first start
	next int64      // the lowest block whose coinbase may be unspent
}

func newChain(dir string, ports Ports) (*chain, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	seed := sha256.Sum256([]byte("htlcdash simnet miner"))
	key, pub := btcec.PrivKeyFromBytes(seed[:])
	address, err := btcutil.NewAddressWitnessPubKeyHash(btcutil.Hash160(pub.SerializeCompressed()), &chaincfg.SimNetParams)
	if err != nil {
		return nil, fmt.Errorf("miner's address: %w", err)
	}
	script, err := txscript.PayToAddrScript(address)
	if err != nil {
		return nil, fmt.Errorf("miner's address: %w", err)
	}
	log, err := openBlockLog(filepath.Join(dir, "blocks"))
	if err != nil {
		return nil, err
	}
	c := &chain{dir: dir, ports: ports, key: key, address: address, script: script, log: log, next: 1}
	c.rpc = &btcdRPC{address: ports.RPC, certFile: c.certFile()}
	return c, nil
}

func (c *chain) certFile() string { return filepath.Join(c.dir, "rpc.cert") }

// start runs btcd, waits until it answers, and gives it the blocks that it lost
// if it was killed.
func (c *chain) start(ctx context.Context, binary string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	proc, err := spawn(chainName, "btcd", filepath.Join(c.dir, "btcd.log"), binary,
		"--simnet", "--configfile="+os.DevNull,
		"--datadir="+filepath.Join(c.dir, "data"), "--logdir="+filepath.Join(c.dir, "logs"),
		"--rpccert="+c.certFile(), "--rpckey="+filepath.Join(c.dir, "rpc.key"),
		"--rpcuser="+rpcUser, "--rpcpass="+rpcPass,
		"--listen="+c.ports.P2P, "--rpclisten="+c.ports.RPC, "--miningaddr="+c.address.EncodeAddress(),
		"--txindex", "--nobanning", "--nostalldetect", "--nodnsseed",
		"--rpcmaxwebsockets=100", "--rpcmaxclients=100",
		"--minrelaytxfee=0.00001", "--trickleinterval=50ms", "--debuglevel=warn")
	if err != nil {
		return err
	}
	c.proc = proc
	ctx, cancel := proc.during(ctx)
	defer cancel()
	if err := until(ctx, func() error { _, err := c.height(ctx); return err }); err != nil {
		return err
	}
	return c.restore(ctx)
}

// process returns btcd as it was started last.
func (c *chain) process() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

func (c *chain) stop(grace time.Duration) {
	c.process().stop(grace)
	c.log.file.Close()
}

func (c *chain) height(ctx context.Context) (height int64, err error) {
	return height, c.rpc.call(ctx, &height, "getblockcount")
}

// mine adds n blocks and returns the height.
func (c *chain) mine(ctx context.Context, n int) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.rpc.call(ctx, nil, "generate", n); err != nil {
		return 0, err
	}
	height, err := c.height(ctx)
	if err != nil {
		return 0, err
	}
	return height, c.record(ctx, height)
}

// grow mines until the chain has height blocks, telling how far it is.
func (c *chain) grow(ctx context.Context, height int64, tell func(have int64)) error {
	have, err := c.height(ctx)
	for err == nil && have < height {
		tell(have)
		have, err = c.mine(ctx, int(min(lot, height-have)))
	}
	return err
}

// freshen mines a block when the last one is so old that lnd would wait for one.
func (c *chain) freshen(ctx context.Context) error {
	if c.log.height() == 0 {
		return errors.New("the chain has lost its blocks: remove the data folder to start anew")
	}
	tip := c.log.blocks[c.log.height()-1].Header.Timestamp
	if time.Since(tip) < staleTip {
		return nil
	}
	_, err := c.mine(ctx, 1)
	return err
}

// seen waits until a transaction waits for a block.
func (c *chain) seen(ctx context.Context, id *chainhash.Hash) error {
	return until(ctx, func() error {
		var pool []string
		err := c.rpc.call(ctx, &pool, "getrawmempool")
		if err == nil && !slices.Contains(pool, id.String()) {
			return fmt.Errorf("transaction %v does not reach the chain", id)
		}
		return err
	})
}

// pay sends outs from mature coinbases. It is in no block yet on return.
func (c *chain) pay(ctx context.Context, outs ...*wire.TxOut) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const fee = 100_000
	need := int64(fee)
	for _, out := range outs {
		need += out.Value
	}
	tx, have := wire.NewMsgTx(2), int64(0)
	for ; have < need; have += subsidy {
		coin, err := c.coin(ctx)
		if err != nil {
			return err
		}
		tx.AddTxIn(wire.NewTxIn(coin, nil, nil))
	}
	tx.TxOut = append(tx.TxOut, outs...)
	tx.AddTxOut(wire.NewTxOut(have-need, c.script))
	if err := c.sign(tx); err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := tx.Serialize(&raw); err != nil {
		return fmt.Errorf("send coins: %w", err)
	}
	return c.rpc.call(ctx, nil, "sendrawtransaction", hex.EncodeToString(raw.Bytes()))
}

// coin returns the oldest coinbase that is unspent, and does not give it out
// again. Change is left where it lies: there are coins enough.
func (c *chain) coin(ctx context.Context) (*wire.OutPoint, error) {
	for ; c.next+maturity <= c.log.height(); c.next++ {
		id := c.log.blocks[c.next-1].Transactions[0].TxHash()
		var unspent *struct{}
		if err := c.rpc.call(ctx, &unspent, "gettxout", id.String(), 0, true); err != nil {
			return nil, err
		}
		if unspent != nil {
			c.next++
			return wire.NewOutPoint(&id, 0), nil
		}
	}
	return nil, errors.New("the miner has no mature coin left: mine more blocks")
}

func (c *chain) sign(tx *wire.MsgTx) error {
	prev := txscript.NewCannedPrevOutputFetcher(c.script, subsidy)
	hashes := txscript.NewTxSigHashes(tx, prev)
	for i, in := range tx.TxIn {
		witness, err := txscript.WitnessSignature(tx, hashes, i, subsidy, c.script, txscript.SigHashAll, c.key, true)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		in.Witness = witness
	}
	return nil
}

// scriptOf is the output script of an address on simnet.
func scriptOf(address string) ([]byte, error) {
	a, err := btcutil.DecodeAddress(address, &chaincfg.SimNetParams)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if !a.IsForNet(&chaincfg.SimNetParams) {
		return nil, fmt.Errorf("address %q is not of simnet", address)
	}
	return txscript.PayToAddrScript(a)
}

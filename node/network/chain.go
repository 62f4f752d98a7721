package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil"
	"github.com/btcsuite/btcd/chaincfg"
	"github.com/btcsuite/btcd/chaincfg/chainhash"
	"github.com/btcsuite/btcd/rpcclient"
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
	dir, p2p, rpc string
	proc          *process
	client        *rpcclient.Client
	key           *btcec.PrivateKey
	address       btcutil.Address
	script        []byte

	mu   sync.Mutex // mining and spending
	next int64      // the lowest block whose coinbase may be unspent
}

func newChain(dir string, ports Ports) (*chain, error) {
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
	return &chain{dir: dir, p2p: ports.P2P, rpc: ports.RPC, key: key, address: address, script: script, next: 1}, nil
}

func (c *chain) certFile() string { return filepath.Join(c.dir, "rpc.cert") }

// start runs btcd and waits until it answers.
func (c *chain) start(ctx context.Context, binary string) (err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.proc, err = spawn(chainName, "btcd", filepath.Join(c.dir, "btcd.log"), binary,
		"--simnet", "--configfile="+os.DevNull,
		"--datadir="+filepath.Join(c.dir, "data"), "--logdir="+filepath.Join(c.dir, "logs"),
		"--rpccert="+c.certFile(), "--rpckey="+filepath.Join(c.dir, "rpc.key"),
		"--rpcuser="+rpcUser, "--rpcpass="+rpcPass,
		"--listen="+c.p2p, "--rpclisten="+c.rpc, "--miningaddr="+c.address.EncodeAddress(),
		"--txindex", "--nobanning", "--nostalldetect", "--nodnsseed",
		"--rpcmaxwebsockets=100", "--rpcmaxclients=100",
		"--minrelaytxfee=0.00001", "--trickleinterval=50ms", "--debuglevel=warn")
	if err != nil {
		return err
	}
	ctx, cancel := c.proc.during(ctx)
	defer cancel()
	return until(ctx, c.dial)
}

func (c *chain) dial() error {
	cert, err := os.ReadFile(c.certFile())
	if err != nil {
		return err
	}
	// rpcclient goes on trying for long when nobody listens: look first.
	conn, err := net.Dial("tcp", c.rpc)
	if err != nil {
		return err
	}
	conn.Close()
	c.client, err = rpcclient.New(&rpcclient.ConnConfig{
		Host: c.rpc, User: rpcUser, Pass: rpcPass, Certificates: cert, HTTPPostMode: true,
	}, nil)
	if err != nil {
		return err
	}
	_, err = c.client.GetBlockCount()
	return err
}

func (c *chain) stop(grace time.Duration) {
	if c.client != nil {
		c.client.Shutdown()
	}
	c.proc.stop(grace)
}

// mine adds n blocks and returns the height.
func (c *chain) mine(n int) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.client.Generate(uint32(n)); err != nil {
		return 0, fmt.Errorf("mine %d blocks: %w", n, err)
	}
	return c.client.GetBlockCount()
}

// grow mines until the chain has height blocks, telling how far it is.
func (c *chain) grow(ctx context.Context, height int64, tell func(have int64)) error {
	const lot = 50
	have, err := c.client.GetBlockCount()
	for err == nil && have < height && ctx.Err() == nil {
		have, err = c.mine(int(min(lot, height-have)))
		tell(have)
	}
	return errors.Join(err, ctx.Err())
}

// freshen mines a block when the last one is so old that lnd would wait for one.
func (c *chain) freshen() error {
	hash, err := c.client.GetBestBlockHash()
	if err != nil {
		return fmt.Errorf("chain tip: %w", err)
	}
	header, err := c.client.GetBlockHeader(hash)
	if err != nil {
		return fmt.Errorf("chain tip: %w", err)
	}
	if time.Since(header.Timestamp) < staleTip {
		return nil
	}
	_, err = c.mine(1)
	return err
}

// seen waits until a transaction waits for a block.
func (c *chain) seen(ctx context.Context, id *chainhash.Hash) error {
	return until(ctx, func() error {
		pool, err := c.client.GetRawMempool()
		if err == nil && !slices.ContainsFunc(pool, id.IsEqual) {
			return fmt.Errorf("transaction %v does not reach the chain", id)
		}
		return err
	})
}

// pay sends outs from mature coinbases. It is in no block yet on return.
func (c *chain) pay(outs ...*wire.TxOut) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	const fee = 100_000
	need := int64(fee)
	for _, out := range outs {
		need += out.Value
	}
	tx, have := wire.NewMsgTx(2), int64(0)
	for ; have < need; have += subsidy {
		coin, err := c.coin()
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
	if _, err := c.client.SendRawTransaction(tx, true); err != nil {
		return fmt.Errorf("send coins: %w", err)
	}
	return nil
}

// coin returns the oldest coinbase that is unspent, and does not give it out
// again. Change is left where it lies: there are coins enough.
func (c *chain) coin() (*wire.OutPoint, error) {
	height, err := c.client.GetBlockCount()
	if err != nil {
		return nil, err
	}
	for ; c.next+maturity <= height; c.next++ {
		hash, err := c.client.GetBlockHash(c.next)
		if err != nil {
			return nil, err
		}
		block, err := c.client.GetBlock(hash)
		if err != nil {
			return nil, err
		}
		id := block.Transactions[0].TxHash()
		out, err := c.client.GetTxOut(&id, 0, true)
		if err != nil {
			return nil, err
		}
		if out != nil {
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

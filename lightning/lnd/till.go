package lnd

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
)

// What a till derives from its secret, spec/09-till.md.
const (
	domainTillKey    = "htlcdash/till/key/v1"    // of a virtual node
	domainTillSecret = "htlcdash/till/secret/v1" // an invoice's payment secret
	domainTillNote   = "htlcdash/till/note/v1"   // seals an invoice's metadata
)

// What a till's invoices ask of a route.
const (
	// firstBlock is where the made-up channels of virtual nodes are: far in the
	// future, and behind what lnd gives to channels without confirmations.
	firstBlock = 16_300_000
	lastBlock  = 1<<24 - 1

	tillFinalDelta = 18 // blocks, of the virtual node
	tillHopDelta   = 40 // blocks, on the way to it
	// leastLock is for how many blocks an HTLC must be good when it is taken.
	// lnd would go to the chain with the preimage 16 blocks before the end.
	leastLock = 30
)

// TillOptions are the switches of lnd that must be on for a [Till].
var TillOptions = []string{"requireinterceptor", "store-final-htlc-resolutions"}

// A Journal keeps the claims of a till. Its methods are called by one till, but
// perhaps at once.
type Journal interface {
	// Claim writes c durably before it returns. The same HTLC may be claimed
	// again. If another one has claimed the hash, the error matches
	// [lightning.ErrHashUsed].
	Claim(ctx context.Context, c lightning.Claim) error
	// Claims returns the claims of which Final has not told the outcome.
	Claims(ctx context.Context) ([]lightning.Claim, error)
	// Final writes durably what became of a claimed HTLC. One that was taken
	// becomes the next receipt, another is forgotten. It may be called again.
	Final(ctx context.Context, h lightning.HTLC, taken bool, at time.Time) error
	// Receipts returns at most limit receipts after an index, oldest first.
	Receipts(ctx context.Context, after uint64, limit int) ([]lightning.Receipt, error)
}

// A Till sells beside a node that is ours: it makes invoices itself, and
// settles their payments when the node asks what to do with them, as lnd's HTLC
// interceptor. Each invoice is of a virtual node behind ours, with a key and a
// channel of its own, so no payer's node can think ill of them. The preimage is
// kept nowhere: the seller derives it again, from the note that the invoice
// carries, sealed, and that the payment brings back.
//
// lnd must run with both [TillOptions]: with requireinterceptor, so that a payment
// survives our death and its own and is offered again, and with
// store-final-htlc-resolutions, so that it can be asked later what became of one.
// Before a payment is taken its
// claim is in the journal, and it is income when the node says that it is final:
// so none is lost and none counted twice, whoever dies when.
//
// It implements [lightning.Payee]. All methods may be called at once.
type Till struct {
	// Step is called at each step of a payment: "offered", "claimed" once it is
	// in the journal, "settled" once the preimage is on its way, "final" before
	// the outcome is in the journal. It is for tests, set before [Till.Run]; nil:
	// none.
	Step func(step string)

	node    *Node
	secret  *[32]byte // behind a pointer: fmt must not print it
	journal Journal
	id      lightning.NodeID
	network lightning.Network
	height  atomic.Uint32 // of the chain, not older than heightAge while it runs
	serving atomic.Bool   // the node would ask us about payments

	mu     sync.Mutex
	open   map[lightning.HTLC]lightning.Claim // guarded by mu: outcome not known
	booked chan struct{}                      // guarded by mu: closed, and replaced, when receipts have come
}

func (*Till) String() string { return "till" }

// LogValue keeps t's secret out of logs.
func (t *Till) LogValue() slog.Value { return slog.StringValue(t.String()) }

var _ lightning.Payee = (*Till)(nil)

// NewTill makes a till of a node. Whoever has the secret can read its notes, but
// not take money; another secret makes invoices that are open worthless.
func NewTill(ctx context.Context, n *Node, secret [32]byte, j Journal) (*Till, error) {
	t := &Till{node: n, secret: &secret, journal: j, open: make(map[lightning.HTLC]lightning.Claim), booked: make(chan struct{})}
	info, err := t.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("till: %w", err)
	}
	t.id, t.network = info.ID, info.Network
	claims, err := j.Claims(ctx)
	if err != nil {
		return nil, fmt.Errorf("till: %w", err)
	}
	for _, c := range claims {
		t.open[c.HTLC] = c
	}
	return t, nil
}

// errForgets says what lnd must be told.
var errForgets = errors.New("lnd forgets what became of HTLCs: add store-final-htlc-resolutions=true to lnd.conf and restart it")

// look asks how high the chain is, and whether the node still remembers.
func (t *Till) look(ctx context.Context) (Info, error) {
	info, err := t.node.Info(ctx)
	if err == nil && !info.KeepsFinal {
		err = errForgets
	}
	if err == nil {
		t.height.Store(info.BlockHeight)
	}
	return info, err
}

// Invoice makes an invoice for the hash of p, without asking the node. It does
// not remember it: asking again makes another, and only one of them is taken.
// The terms' note must lead to p again. The error matches
// [lightning.ErrUnavailable] while no [Till.Run] has the node's ear, for then
// nobody could pay.
func (t *Till) Invoice(_ context.Context, p lightning.Preimage, terms lightning.Terms) (lightning.Invoice, error) {
	h := p.Hash()
	if terms.Amount <= 0 || len(terms.Note) > lightning.MaxNote {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: over %v, with a note of %d bytes", h, terms.Amount, len(terms.Note))
	}
	if !t.serving.Load() {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w: the till is shut", h, lightning.ErrUnavailable)
	}
	if terms.Expiry == 0 {
		terms.Expiry = time.Hour
	}
	scid, created := newChannel(), time.Now()
	o := order{amount: terms.Amount, expires: created.Add(terms.Expiry).Unix(), note: terms.Note}
	inv, err := lightning.EncodeInvoice(lightning.Invoice{
		Network: t.network, Hash: h, Amount: terms.Amount, Created: created, Expiry: max(terms.Expiry, time.Second),
		FinalDelta: tillFinalDelta, Memo: terms.Memo,
	}, t.payment(scid, h), t.key(scid),
		lightning.RouteHint(lightning.Hop{Node: t.id, Channel: scid, Delta: tillHopDelta}),
		lightning.Metadata(t.seal(scid, h, o)))
	if err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	return inv, nil
}

// newChannel makes up a channel that leads to a virtual node.
func newChannel() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	r := binary.BigEndian.Uint64(b[:])
	return (firstBlock+(r>>40)%(lastBlock-firstBlock+1))<<40 | r&(1<<40-1)
}

// virtual reports whether a channel could be one that newChannel made up.
func virtual(scid uint64) bool { return scid>>40 >= firstBlock }

func (t *Till) derive(domain string, scid uint64, h []byte) (out [32]byte) {
	m := hmac.New(sha256.New, t.secret[:])
	m.Write([]byte(domain))
	m.Write(binary.BigEndian.AppendUint64(nil, scid))
	m.Write(h)
	m.Sum(out[:0])
	return out
}

// key is the private key of the virtual node behind a channel.
func (t *Till) key(scid uint64) *btcec.PrivateKey {
	b := t.derive(domainTillKey, scid, nil)
	var scalar btcec.ModNScalar
	scalar.SetBytes(&b) // reduced by the order; zero does not happen
	return btcec.PrivKeyFromScalar(&scalar)
}

// payment is the payment secret of an invoice.
func (t *Till) payment(scid uint64, h lightning.Hash) [32]byte {
	return t.derive(domainTillSecret, scid, h[:])
}

// order is what an invoice says to us through the payer: 8 bytes amount in msat,
// 8 bytes expiry in Unix seconds, big-endian, then the note.
type order struct {
	amount  lightning.Msat
	expires int64
	note    []byte
}

const orderHead = 16 // bytes before the note

// seal encrypts an order for its channel and hash. That key is for one message,
// so the nonce is zero.
func (t *Till) seal(scid uint64, h lightning.Hash, o order) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(o.amount))
	b = binary.BigEndian.AppendUint64(b, uint64(o.expires))
	aead := t.aead(scid, h)
	return aead.Seal(nil, make([]byte, aead.NonceSize()), append(b, o.note...), nil)
}

var errOrder = errors.New("metadata is not of this till")

// unseal reads what seal wrote.
func (t *Till) unseal(scid uint64, h lightning.Hash, sealed []byte) (order, error) {
	aead := t.aead(scid, h)
	b, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil || len(b) < orderHead || len(b) > orderHead+lightning.MaxNote {
		return order{}, errOrder
	}
	return order{
		amount:  lightning.Msat(binary.BigEndian.Uint64(b)),
		expires: int64(binary.BigEndian.Uint64(b[8:])),
		note:    b[orderHead:],
	}, nil
}

func (t *Till) aead(scid uint64, h lightning.Hash) cipher.AEAD {
	key := t.derive(domainTillNote, scid, h[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("lnd: " + err.Error()) // the size is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("lnd: " + err.Error())
	}
	return aead
}

// pageOfReceipts is how many are read from the journal at once.
const pageOfReceipts = 256

// Receipts reports payments that are final, as [lightning.Payee] says. They
// come from the journal, which [Till.Run] writes, so Run must run too.
func (t *Till) Receipts(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	begin := after
	for {
		t.mu.Lock()
		booked := t.booked
		t.mu.Unlock()
		page, err := t.journal.Receipts(ctx, after, pageOfReceipts)
		for _, r := range page {
			if err = got(r); err != nil {
				break
			}
			after = r.Index
		}
		if err == nil && len(page) == 0 {
			select {
			case <-booked:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("receipts after %d: %w", begin, err)
		}
	}
}

func (t *Till) step(step string) {
	if t.Step != nil {
		t.Step(step)
	}
}

// claim books that an HTLC is about to be taken.
func (t *Till) claim(ctx context.Context, c lightning.Claim) error {
	if err := t.journal.Claim(ctx, c); err != nil {
		return err
	}
	t.mu.Lock()
	t.open[c.HTLC] = c
	t.mu.Unlock()
	t.step("claimed")
	return nil
}

// claimed reports whether an HTLC was claimed and its outcome is not known.
func (t *Till) claimed(h lightning.HTLC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.open[h]
	return ok
}

// unknown lists the claims whose outcome is not known.
func (t *Till) unknown() []lightning.Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.open))
}

// conclude books what became of an HTLC, if it was claimed.
func (t *Till) conclude(ctx context.Context, h lightning.HTLC, taken bool, at time.Time) error {
	if !t.claimed(h) {
		return nil
	}
	t.step("final")
	if err := t.journal.Final(ctx, h, taken, at); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, h)
	if taken {
		close(t.booked)
		t.booked = make(chan struct{})
	}
	return nil
}

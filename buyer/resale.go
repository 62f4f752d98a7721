package buyer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A Resale is the quote of a provider for a key that is sold on before it is
// bought: the payment of whom it is sold to is held over the same hash. What is
// paid here settles that payment there, whatever the provider does, since it is
// one preimage; so nothing has to be proved to who pays, and the sealed bytes need
// not be in hand.
type Resale struct {
	Provider   string // URL
	Sealed     htlcdash.Root
	Price      lightning.Msat
	Hash       lightning.Hash // whose preimage is bought
	Salt       htlcdash.Salt
	Prover     htlcdash.ProviderID // who proves that the preimage gives the key: the provider, or whose it passes on
	FinalDelta int                 // blocks for which the provider may hold the payment
	Expires    time.Time           // it cannot be paid after that

	b   *Buyer
	seg htlcdash.Segment
	q   *quote
}

// bounds are those of a payment for which another's is held.
type bounds struct {
	most  lightning.Msat // that it may cost, its route included
	lock  int            // blocks
	again bool           // it was ordered before, and seems not to have reached the node
}

// Berths is how many numbers [Buyer.Resales] tells apart. Of providers that sell
// their credentials it tells fewer apart, since each costs one for each title.
const (
	Berths     = 16
	soldBerths = 4
)

// berthOf is the number of the berth that a guest has with p.
func (p *peer) berthOf(number uint8) uint8 {
	if p.purse.known().Credentials.Price > 0 {
		return 1 + number%soldBerths
	}
	return 1 + number%Berths
}

// anyBerth is a title with a berth at p that has a credential which serves.
func (p *peer) anyBerth(t *title) (*title, bool) {
	for n := range uint8(Berths) {
		if other := t.at(1 + n); p.purse.live(other.berth()) != nil {
			return other, true
		}
	}
	return nil, false
}

// Resales asks for quotes for the keys of segs, which are of one title, in their
// order: nil where nobody gives one. They are fresh, and nobody else gets them.
// Providers are asked as the market ranks them, each for what the ones before did
// not quote. Whom keys are sold on to is told apart by a berth below [Berths]: each
// has rations of its own with each provider. The error says why some are nil, if
// any is. Nothing is spent but for credentials, where they are sold.
func (b *Buyer) Resales(ctx context.Context, segs []htlcdash.Segment, number uint8) ([]*Resale, error) {
	if len(segs) == 0 {
		return nil, nil
	}
	t, err := b.title(segs[0].Title)
	if err != nil {
		return make([]*Resale, len(segs)), err
	}
	found := make([]*Resale, len(segs))
	var errs []error
	for _, p := range b.rank(t, segs[0], needOf(ctx, segs[0], len(segs))) {
		var want []int
		var lacking []htlcdash.Segment
		for i, r := range found {
			if r == nil {
				want, lacking = append(want, i), append(lacking, segs[i])
			}
		}
		if len(want) == 0 || ctx.Err() != nil {
			break
		}
		if p.holds(time.Now()) {
			errs = append(errs, fmt.Errorf("%s: %w", p.peer, ErrExposure))
			continue
		}
		quotes, err := b.inquire(ctx, p.peer, t.at(p.peer.berthOf(number)), lacking, false)
		if errors.Is(err, errTokensCost) { // rather share a berth than go without
			if other, ok := p.peer.anyBerth(t); ok {
				quotes, err = b.inquire(ctx, p.peer, other, lacking, true)
			}
		}
		errs = append(errs, err)
		for i, q := range quotes {
			if q != nil {
				found[want[i]] = b.resale(lacking[i], q)
			}
		}
	}
	if slices.Contains(found, nil) {
		return found, errors.Join(append([]error{ErrNoOffer}, errs...)...)
	}
	return found, nil
}

func (b *Buyer) resale(seg htlcdash.Segment, q *quote) *Resale {
	r := &Resale{
		Provider: q.peer.URL(), Sealed: q.Sealed, Price: q.Price, Hash: q.Hash, Salt: q.Salt, Prover: q.Prover,
		FinalDelta: q.inv.FinalDelta, Expires: q.Expires, b: b, seg: seg, q: q,
	}
	if r.Prover == (htlcdash.ProviderID{}) {
		r.Prover = q.signer
	}
	return r
}

// record is a Resale as it is kept across a restart.
type record struct {
	Provider       string              `json:"provider"`
	Signer         htlcdash.ProviderID `json:"signer"`
	Title          htlcdash.TitleID    `json:"title"`
	Representation string              `json:"rep"`
	Index          int                 `json:"index"`
	KeyHash        lightning.Hash      `json:"key_hash"`
	Ceiling        lightning.Msat      `json:"ceiling_msat"`
	Offer          exchange.Offer      `json:"offer"`
	Pass           []byte              `json:"pass,omitempty"` // the credential that it was made to
}

// Record is r for [Buyer.ResaleOf] of a later run. It holds a salt and a credential:
// keep it as the books are kept.
func (r *Resale) Record() ([]byte, error) {
	c := record{
		Provider: r.Provider, Signer: r.q.signer, Title: r.seg.Title, Representation: r.seg.Representation, Index: r.seg.Index,
		KeyHash: r.seg.KeyHash, Ceiling: r.seg.Price, Offer: r.q.Offer,
	}
	if r.q.pass != nil {
		c.Pass = r.q.pass.credential.Reveal()
	}
	return json.Marshal(c)
}

// ResaleOf returns the resale of which [Resale.Record] made b. It can be proved and
// paid as before. The error matches [htlcdash.ErrFormat] if b is no record.
func (b *Buyer) ResaleOf(ctx context.Context, blob []byte) (*Resale, error) {
	var c record
	if err := json.Unmarshal(blob, &c); err != nil {
		return nil, fmt.Errorf("resale: %w: %w", err, htlcdash.ErrFormat)
	}
	inv, err := lightning.DecodeInvoice(c.Offer.Invoice)
	if err != nil || inv.Hash != c.Offer.Hash || inv.Amount != c.Offer.Price {
		return nil, fmt.Errorf("resale of %s: its invoice is another's: %w", c.Offer.Hash, htlcdash.ErrFormat)
	}
	provider, err := NewProvider(c.Provider, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, htlcdash.ErrFormat)
	}
	if err := b.openAccount(ctx, c.Title); err != nil {
		return nil, err
	}
	seg := htlcdash.Segment{Title: c.Title, Representation: c.Representation, Index: c.Index, Seal: htlcdash.Seal{
		Sealed: c.Offer.Sealed, KeyHash: c.KeyHash, Price: c.Ceiling,
	}}
	b.mu.Lock()
	p := b.peer(provider)
	b.mu.Unlock()
	q := &quote{peer: p, Offer: c.Offer, inv: inv, signer: c.Signer, ceiling: c.Ceiling}
	if len(c.Pass) > 0 {
		shown, err := credential.ParseCredential(c.Pass)
		if err != nil {
			return nil, fmt.Errorf("resale of %s: %w: %w", c.Offer.Hash, err, htlcdash.ErrFormat)
		}
		q.pass = &pass{credential: shown}
	}
	return b.resale(seg, q), nil
}

// Proof passes on a request for the proof of r, and returns what the provider
// answers, not verified: it is for who named the nonce. The error matches
// htlcdash.ErrNotFound where none can be had.
func (r *Resale) Proof(ctx context.Context, system string, nonce [32]byte) ([]byte, error) {
	said := r.q.peer.purse.known()
	switch {
	case r.q.pass == nil:
		return nil, fmt.Errorf("proof of %s: %w", r.Hash, htlcdash.ErrNotFound)
	case said.Key != (htlcdash.ProviderID{}) && !slices.Contains(said.Proofs, system): // else it has not been asked yet
		return nil, fmt.Errorf("%s makes no proofs of the kind %.32q: %w", r.Provider, system, htlcdash.ErrNotFound)
	}
	return r.q.peer.proof(ctx, r.q.pass.credential, exchange.ProofRequest{
		Title: r.seg.Title, System: system, Nonce: nonce, Sales: []exchange.SaleID{r.q.ID()},
	})
}

// Pay buys the preimage of r.Hash for at most most msat, the route included, over
// a route on which it cannot be locked for more than lock blocks. If the key is
// owned, or comes by another payment, nothing is paid: key and salt make the
// preimage. With a most of 0 nothing is paid anew.
//
// It waits until the outcome is known, or ctx is done. An error that matches
// lightning.ErrInFlight means that money may have been spent or may yet be: call
// it again, with a lock as it is then, also in a later run. After all others
// nothing was spent on r, and nothing will be.
func (r *Resale) Pay(ctx context.Context, most lightning.Msat, lock int) (lightning.Preimage, error) {
	p, again, err := r.known(ctx)
	if err != nil || !p.IsZero() {
		return p, err
	}
	f, err := r.begin(most, lock, again)
	switch {
	case err != nil && again: // what was ordered before may yet go out
		return p, inFlight(err)
	case err != nil:
		return p, err
	}
	p, err = r.wait(ctx, f)
	if err != nil && !errors.Is(err, lightning.ErrInFlight) && r.mayPayAgain(f) {
		err = inFlight(err)
	}
	return p, err
}

// mayPayAgain reports whether there may be a payment over r.Hash after f has
// failed: f was another for the same key, or seems not to have reached the node.
func (r *Resale) mayPayAgain(f *flight) bool {
	_, doubted := newDoubt(f.Purchase, time.Now())
	return f.Hash != r.Hash || doubted
}

// known looks for the preimage where it may be by now: in the books, or in those of
// the node. If again, r was ordered before and seems not to have reached the node.
func (r *Resale) known(ctx context.Context) (p lightning.Preimage, again bool, err error) {
	b := r.b
	if err := b.reconsiderAll(ctx, r.seg); err != nil {
		return p, false, inFlight(err)
	}
	own, err := b.c.Ledger.Purchase(ctx, r.Hash)
	switch {
	case errors.Is(err, htlcdash.ErrNotFound):
	case err != nil:
		return p, false, inFlight(err)
	case own.State == lightning.Paid && !own.Preimage.IsZero():
		return own.Preimage, false, nil
	case own.State == lightning.Failed:
		if _, again = newDoubt(own, time.Now()); !again && b.flight(r.seg) == nil {
			return p, false, fmt.Errorf("payment %s: %w: %s", r.Hash, lightning.ErrFailed, own.Reason)
		}
	case own.State == lightning.Unknown:
		f := b.flightOf(r.seg, r.Hash)
		if f == nil { // it has just ended
			return p, false, inFlight(fmt.Errorf("payment %s", r.Hash))
		}
		if p, err = r.wait(ctx, f); err != nil && !errors.Is(err, lightning.ErrInFlight) && r.mayPayAgain(f) {
			err = inFlight(err)
		}
		return p, false, err
	}
	key, err := b.c.Ledger.Key(ctx, r.seg.Seal)
	if errors.Is(err, htlcdash.ErrNotFound) {
		return p, again, nil
	}
	if err != nil {
		return p, false, inFlight(err)
	}
	p, err = r.preimage(key)
	return p, false, err
}

// flightOf returns the payment over a hash for the key of seg. After a restart there
// can be several for a key.
func (b *Buyer) flightOf(seg htlcdash.Segment, h lightning.Hash) *flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range append([]*flight{b.flights[seg.KeyHash]}, b.past...) {
		if f != nil && f.Hash == h {
			return f
		}
	}
	return nil
}

func inFlight(err error) error { return fmt.Errorf("%w: %w", lightning.ErrInFlight, err) }

// preimage makes it of a key that came otherwise.
func (r *Resale) preimage(key htlcdash.Key) (lightning.Preimage, error) {
	if p := r.Salt.Preimage(key); p.Opens(r.Hash) {
		return p, nil
	}
	return lightning.Preimage{}, fmt.Errorf("%s offered another key than the title's: %w", r.Provider, ErrTerms)
}

// begin starts the payment, or finds the one that is under way for the key. Again, it
// orders the same payment once more: a node pays a hash once.
func (r *Resale) begin(most lightning.Msat, lock int, again bool) (*flight, error) {
	b, q := r.b, *r.q
	if f := b.flight(r.seg); f != nil {
		return f, nil
	}
	if _, ok := b.c.Payer.(lightning.Locker); !ok {
		return nil, fmt.Errorf("this node bounds no locks: %w", ErrStopped)
	}
	switch {
	case q.Price > most:
		return nil, fmt.Errorf("%v, at most %v: %w", q.Price, most, ErrPrice)
	case !time.Now().Before(q.Expires) || q.inv.Expired(time.Now()):
		return nil, exchange.ErrExpired
	case !q.peer.ok():
		return nil, fmt.Errorf("%s is banned: %w", q.peer, ErrNoOffer)
	}
	q.resale = &bounds{most, lock, again}
	// What is held covers it, so it is no exposure; but who lets payments hang gets
	// no more of them.
	if _, ok := q.peer.tryExpose(0, NoLimit); !ok {
		return nil, fmt.Errorf("%s lets a payment hang: %w", q.peer, ErrExposure)
	}
	f, mine, err := b.tryBegin(r.seg, &q, nil, 0)
	if !mine {
		q.peer.proved(0)
	}
	return f, err
}

// wait returns what f bought, as the preimage of r.
func (r *Resale) wait(ctx context.Context, f *flight) (lightning.Preimage, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return lightning.Preimage{}, inFlight(ctx.Err())
	case <-r.b.alive.Done():
		return lightning.Preimage{}, inFlight(ErrClosed)
	}
	if f.Hash == r.Hash && f.preimage.Opens(r.Hash) {
		return f.preimage, nil
	}
	if f.err != nil {
		return lightning.Preimage{}, f.err
	}
	return r.preimage(f.key)
}

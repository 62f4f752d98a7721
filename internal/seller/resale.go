package seller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
)

// A Keyring holds keys that are in no key file: those that were bought.
type Keyring interface {
	// Key returns the key of seg. The error matches [htlcdash.ErrNotFound] if it
	// is not to be had here: then a [Relay] is asked, if there is one. A key that
	// was returned once is returned again, also after a restart. It may be called
	// at once from many goroutines.
	Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error)
}

// A Relay passes on what others sell (spec/14): it offers a key for a hold invoice
// over the payment hash of another's offer, and pays that other only while the
// buyer's money is held. Its methods may be called at once.
type Relay interface {
	// Offers makes an offer for the key of each of segs, which are of one title,
	// in their order, or says in Error why there is none. A guest is the holder of
	// a credential; hold makes a hold invoice on the provider's node, which counts
	// against the guest's rations until it has expired or was paid. The same
	// guest and try get the same offers while they live. They are in the relay's
	// books, but not signed; their counters are below 0.
	Offers(ctx context.Context, guest [32]byte, hold func(context.Context, lightning.Hash, lightning.Terms) (lightning.Invoice, error),
		segs []htlcdash.Segment, try exchange.Try) []exchange.Offer
	// Proof passes the request for the proof of an offer that was made to a guest
	// to who sells to us, and its answer back, not verified. The error matches
	// [htlcdash.ErrNotFound] if there is no such offer.
	Proof(ctx context.Context, guest [32]byte, id exchange.SaleID, system string, nonce exchange.Nonce) ([]byte, error)
	// Sold returns the preimage of a sale to a guest that was settled, or a
	// zero one if there is none (yet).
	Sold(ctx context.Context, guest [32]byte, id exchange.SaleID) (lightning.Preimage, error)
}

// id names v to a relay.
func (v *guest) id() [32]byte {
	return sha256.Sum256(append(append([]byte("htlcdash/guest/v1"), v.token.KeyID[:]...), v.token.Nonce[:]...))
}

// isResold reports whether id names an offer that was passed on: the seller's own
// counters are times.
func isResold(id exchange.SaleID) bool { return id.Counter < 0 }

// key returns a key that is here.
func (s *Seller) key(ctx context.Context, t *sealedTitle, seg htlcdash.Segment) (htlcdash.Key, error) {
	key, err := t.keys.Key(ctx, seg)
	if errors.Is(err, htlcdash.ErrNotFound) && s.config.Bought != nil {
		return s.config.Bought.Key(ctx, seg)
	}
	return key, err
}

// resell fills in, of offers, those for keys that are not here.
func (s *Seller) resell(ctx context.Context, v *guest, t *sealedTitle, req exchange.OfferRequest, offers []exchange.Offer) {
	if s.config.Relay == nil {
		return
	}
	var at []int
	var segs []htlcdash.Segment
	for i, o := range offers {
		if seg, ok := t.segments[o.Sealed]; ok && o.Error == exchange.RefusedUnknown {
			at, segs = append(at, i), append(segs, *seg)
		}
	}
	if len(segs) == 0 {
		return
	}
	hold := func(ctx context.Context, h lightning.Hash, t lightning.Terms) (lightning.Invoice, error) {
		inv, err := s.register.hold(ctx, v, h, t)
		if err != nil && !errors.Is(err, errBusy) {
			s.nodeFailed(err)
		}
		return inv, err
	}
	for i, o := range s.config.Relay.Offers(ctx, v.id(), hold, segs, req.Try) {
		var err error
		if o.Error == "" {
			o.Signature, err = exchange.SignOffer(s.till.Key, t.ID, segs[i].Seal, o)
		}
		if err != nil {
			o = exchange.Offer{Sealed: o.Sealed, Error: exchange.RefusedUnavailable}
		}
		offers[at[i]] = o
	}
}

// proofResold is the proof of an offer that was passed on. What comes from
// elsewhere is bounded: it has the length of such a proof, or is none.
func (s *Seller) proofResold(ctx context.Context, v *guest, sys proof.System, nonce exchange.Nonce, id exchange.SaleID) ([]byte, error) {
	if s.config.Relay == nil {
		return nil, fmt.Errorf("offer %d: %w", id.Counter, htlcdash.ErrNotFound)
	}
	pf, err := s.config.Relay.Proof(ctx, v.id(), id, sys.Name(), nonce)
	if err == nil && len(pf) != sys.Length(proof.Link) {
		err = fmt.Errorf("proof of %d bytes from upstream, want %d: %w", len(pf), sys.Length(proof.Link), errUpstream)
	}
	return pf, err
}

// errUpstream means that who sells to us does not do as it should.
var errUpstream = errors.New("who sells to us fails")

// soldResold is soldKey for what was passed on.
func (s *Seller) soldResold(ctx context.Context, v *guest, id exchange.SaleID) (string, error) {
	if s.config.Relay == nil {
		return "", nil
	}
	p, err := s.config.Relay.Sold(ctx, v.id(), id)
	if err != nil || p.IsZero() {
		return "", err
	}
	b := p.Reveal()
	return hex.EncodeToString(b[:]), nil
}

// hold is Invoice for a hash whose preimage is not here.
func (r *register) hold(ctx context.Context, owner *guest, h lightning.Hash, t lightning.Terms) (lightning.Invoice, error) {
	if r.holder == nil {
		return lightning.Invoice{}, fmt.Errorf("hold invoice: %w", errBusy)
	}
	if err := r.reserve(owner); err != nil {
		return lightning.Invoice{}, err
	}
	leave, err := r.calls.enter(ctx, &owner.desk)
	var inv lightning.Invoice
	if err == nil {
		inv, err = r.holder.HoldInvoice(ctx, h, t)
		leave()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending--
	if _, ok := r.open[h]; ok || err != nil {
		owner.offered(-1)
		return inv, err
	}
	r.open[h] = openOffer{invoice: inv, owner: owner}
	return inv, nil
}

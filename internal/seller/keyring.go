package seller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A Keyring has the content keys of titles that have no key file here: those
// that the provider bought. Its methods may be called at once.
type Keyring interface {
	// Key returns the key of seg. If it is not here the error matches
	// [htlcdash.ErrNotFound].
	Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error)
	// Has reports whether the key of seg is here, at once.
	Has(seg htlcdash.Segment) bool
	// Order returns the key of seg, and gets it if it is not here, for somebody
	// who asks what it costs and may not pay. An [exchange.Refusal] says why it is
	// not sold now.
	Order(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error)
	// Sold tells that somebody has paid for the key of seg.
	Sold(seg htlcdash.Segment)
	// AtRisk is what was paid for keys that nobody has paid for here since.
	AtRisk() lightning.Msat
}

// Sealed gives sealed bytes, checked against their name. They are not changed.
type Sealed interface {
	Get(ctx context.Context, b htlcdash.Blob) ([]byte, error)
}

// carriedMemory bounds the sealed bytes of resold titles that are on their way
// to viewers at once.
const carriedMemory = 256 << 20

// key returns the key of a segment from the title's file, or from what was
// bought. The error matches [htlcdash.ErrNotFound] if it is in neither.
func (t *sealedTitle) key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	key, err := t.keys.Key(ctx, seg)
	if t.ring != nil && errors.Is(err, htlcdash.ErrNotFound) {
		return t.ring.Key(ctx, seg)
	}
	return key, err
}

// lacks counts the segments whose key or sealed bytes are not here. The sealed
// bytes of a resold title are elsewhere as a rule, and do not count.
func (t *sealedTitle) lacks() (n int) {
	if !t.resold {
		return t.missing
	}
	for _, seg := range t.segments {
		if _, err := t.keys.Key(context.Background(), *seg); err != nil && !t.ring.Has(*seg) {
			n++
		}
	}
	return n
}

// order gets the key of a resold title's segment because v asks for an offer.
func (s *Seller) order(ctx context.Context, v *guest, seg htlcdash.Segment) (htlcdash.Key, error) {
	if err := v.ordered(); err != nil {
		return htlcdash.Key{}, err
	}
	return s.config.Keys.Order(ctx, seg)
}

// refusalOf is what an offer says of why there is no key for it.
func refusalOf(err error) string {
	if r, ok := errors.AsType[exchange.Refusal](err); ok {
		return string(r)
	}
	switch {
	case errors.Is(err, errRation):
		return exchange.RefusedBusy
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return exchange.RefusedUnavailable
	}
	return exchange.RefusedUnknown
}

// sold tells the keyring of a sale.
func (s *Seller) sold(sale ledger.Sale) {
	if s.config.Keys == nil {
		return
	}
	if t := s.shelf.Load().byID[sale.Title]; t != nil && t.segments[sale.Sealed] != nil {
		s.config.Keys.Sold(*t.segments[sale.Sealed])
	}
}

// serveCarried sends the sealed bytes of a resold title, from wherever they are
// to be had.
func (s *Seller) serveCarried(w http.ResponseWriter, r *http.Request, b htlcdash.Blob) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", fmt.Sprint(b.Length))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if err := s.carried.Acquire(r.Context(), b.Length); err != nil {
		return err
	}
	defer s.carried.Release(b.Length)
	data, err := s.config.Sealed.Get(r.Context(), b)
	if err != nil {
		if r.Context().Err() == nil {
			s.log.Warn("sealed bytes of a resold title", "sealed", b.Root, "err", err)
		}
		return fmt.Errorf("sealed bytes %s are nowhere to be had now: %w", b.Root, htlcdash.ErrNotFound)
	}
	patience(w, b.Length)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return nil
}

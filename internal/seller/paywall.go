package seller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// openMemory bounds the bytes of segments that are open at once for clients
// that prepaid. One segment always fits.
const openMemory = htlcdash.MaxSegmentLength

// maxChallenges bounds how many invoices of 402s are remembered.
const maxChallenges = 1 << 13

// A mediaOffer is what a 402 says for machines, whatever else it carries: what
// the segment is, and where our own viewers get it.
type mediaOffer struct {
	Title          htlcdash.TitleID `json:"title"`
	Representation string           `json:"representation"`
	Segment        int              `json:"segment"`
	Sealed         htlcdash.Root    `json:"sealed"`
	SealedURL      string           `json:"sealed_url"`
	SealedLength   int64            `json:"sealed_length"`
	Length         int64            `json:"length"`
	Opens          int              `json:"opens"`      // how many segments the key opens
	Price          lightning.Msat   `json:"price_msat"` // of the key
	OffersURL      string           `json:"offers_url"`
	Schemes        []string         `json:"schemes"`
}

// A paywall sells plain bytes to clients that know nothing of seals. It makes
// an invoice only where one is needed: at most one for each address and
// segment while it can be paid, and no more for an address than its bucket has.
type paywall struct {
	exchange.Prepaid
	clients *clients
	memory  *semaphore.Weighted

	join singleflight.Group
	mu   sync.Mutex
	made lru[challengeKey, lightning.Invoice]
	seen lru[lightning.Hash, struct{}] // payments that were shown
}

type challengeKey struct {
	addr   netip.Addr
	sealed htlcdash.Root
}

func (k challengeKey) String() string { return k.addr.String() + "/" + k.sealed.String() }

// admit looks for a proof of payment in r.
func (s *Seller) admit(r *http.Request, t *sealedTitle, m media) (exchange.Grant, error) {
	if !t.prepaid || !m.named {
		return exchange.Grant{}, exchange.ErrNoCredential
	}
	g, err := s.paywall.Admit(r.Header.Values("Authorization"), m.segment.Sealed, time.Now())
	if err == nil {
		s.late(r.Context(), m.segment, g)
	}
	return g, err
}

// askMoney answers a request that showed no good proof of payment, for the
// reason in failure. It always says what the segment costs and where to get an
// offer; it adds challenges if the title is sold to foreign clients, the
// request names one segment, and an invoice is to be had.
func (s *Seller) askMoney(w http.ResponseWriter, r *http.Request, t *sealedTitle, m media, failure error) {
	p := paymentProblem(failure)
	p.Offer = s.mediaOffer(t, m.segment)
	switch {
	case !m.named:
		p.Detail = "ask for the byte range of one segment: each is sold for itself"
	case t.prepaid && r.Method == http.MethodGet:
		inv, err := s.challenge(r, t, m.segment)
		if err != nil {
			p.wait = s.refused(err)
			p.Detail += "; no invoice can be made now"
			break
		}
		w.Header()["Www-Authenticate"] = s.paywall.Challenge(inv, m.segment.Sealed)
	}
	if p.Status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
		w.Header().Set("WWW-Authenticate", `L402 version="0"`) // a 401 must name a scheme
	}
	p.write(w, r)
}

func (s *Seller) mediaOffer(t *sealedTitle, seg htlcdash.Segment) *mediaOffer {
	from, to := seg.Opens()
	o := &mediaOffer{
		Title:          seg.Title,
		Representation: seg.Representation,
		Segment:        seg.Index,
		Sealed:         seg.Sealed,
		SealedURL:      "/" + htlcdash.SealedPath(seg.Sealed),
		SealedLength:   htlcdash.SealedLength(seg.Length),
		Length:         seg.Length,
		Opens:          to - from,
		Price:          s.price(seg),
		OffersURL:      "/v1/offers",
		Schemes:        []string{exchange.SchemeSalted},
	}
	if t.prepaid {
		o.Schemes = append(o.Schemes, exchange.SchemePrepaid)
	}
	return o
}

// refused says when to ask for an invoice again.
func (s *Seller) refused(err error) time.Duration {
	var limited errLimited
	switch {
	case errors.As(err, &limited):
		return limited.wait
	case errors.Is(err, errBusy):
		return 10 * time.Second
	default:
		s.nodeFailed(err)
		return 30 * time.Second
	}
}

// challenge returns the invoice that r's address may pay for seg. Requests at
// the same time share it.
func (s *Seller) challenge(r *http.Request, t *sealedTitle, seg htlcdash.Segment) (lightning.Invoice, error) {
	key := challengeKey{s.from(r), seg.Sealed}
	v, err, _ := s.paywall.join.Do(key.String(), func() (any, error) {
		if inv, ok := s.paywall.last(key); ok && s.register.isOpen(inv.Hash) {
			return inv, nil
		}
		if wait, ok := s.paywall.clients.allow(key.addr, 1); !ok {
			return nil, errLimited{wait}
		}
		inv, err := s.invoice(context.WithoutCancel(r.Context()), t, seg)
		if err != nil {
			return nil, err
		}
		s.paywall.remember(key, inv)
		return inv, nil
	})
	if err != nil {
		return lightning.Invoice{}, err
	}
	return v.(lightning.Invoice), nil
}

// invoice makes an invoice for the plain bytes of seg. First it opens the
// segment: money is not asked for what cannot be given. Nothing is booked: a
// stranger's question is worth no row. What is sold is remembered until it is
// paid or has expired; after a restart the credential tells it.
func (s *Seller) invoice(ctx context.Context, t *sealedTitle, seg htlcdash.Segment) (lightning.Invoice, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	if err := s.register.room(s.strangers); err != nil {
		return lightning.Invoice{}, err // no work for what cannot be asked for
	}
	_, done, err := s.open(ctx, t, seg)
	if err != nil {
		return lightning.Invoice{}, err
	}
	done()
	inv, err := s.paywall.Invoice(ctx, seg.Sealed, s.plainPrice(seg))
	if err == nil {
		s.register.booked([]ledger.Sale{saleOf(seg, inv.Hash, exchange.SchemePrepaid, inv.Amount)})
	}
	return inv, err
}

// first reports whether the payment h was not shown before, as far as is known.
func (p *paywall) first(h lightning.Hash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.seen.get(h)
	p.seen.put(h, struct{}{})
	return !ok
}

// plainPrice is what the plain bytes of seg cost: they open nothing else, so
// where a key opens several segments it is a share of the key's price, rounded
// up. All of them together never cost less than the key.
func (s *Seller) plainPrice(seg htlcdash.Segment) lightning.Msat {
	from, to := seg.Opens()
	n := lightning.Msat(to - from)
	return (s.price(seg) + n - 1) / n
}

func (p *paywall) last(key challengeKey) (lightning.Invoice, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made.get(key)
}

func (p *paywall) remember(key challengeKey, inv lightning.Invoice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made.put(key, inv)
}

// open returns the plain bytes of seg. They count against openMemory until the
// caller calls done.
func (s *Seller) open(ctx context.Context, t *sealedTitle, seg htlcdash.Segment) (plain []byte, done func(), err error) {
	size := htlcdash.SealedLength(seg.Length)
	if err := s.paywall.memory.Acquire(ctx, size); err != nil {
		return nil, nil, err
	}
	plain, err = s.readPlain(ctx, t, seg)
	if err != nil {
		s.paywall.memory.Release(size)
		return nil, nil, fmt.Errorf("open segment %d of %q of title %s: %w", seg.Index, seg.Representation, t.name, err)
	}
	return plain, func() { s.paywall.memory.Release(size) }, nil
}

func (s *Seller) readPlain(ctx context.Context, t *sealedTitle, seg htlcdash.Segment) ([]byte, error) {
	key, err := s.key(ctx, t, seg)
	if err != nil {
		return nil, err
	}
	f, err := t.local(ctx, seg.SealedBlob())
	if t.elsewhere(err) {
		data, done, err := s.carry(ctx, seg.SealedBlob())
		if err != nil {
			return nil, err
		}
		defer done()
		return seg.Open(key, bytes.Clone(data)) // others may hold data
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed := make([]byte, seg.SealedBlob().Length)
	if _, err := io.ReadFull(f, sealed); err != nil {
		return nil, err
	}
	return seg.Open(key, sealed)
}

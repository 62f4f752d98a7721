package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// Lengths of the segments that are bought.
var lengths = []struct {
	name, rung string
	bytes      int
}{{"100 kB", "100k", 100_000}, {"1 MiB", "1m", 1 << 20}, {"5 MiB", "5m", 5 << 20}}

// How much is done before a segment is wanted.
const (
	nothingAhead = "nothing ahead"
	offerAhead   = "offer ahead"
	proofAhead   = "offer and proof ahead"
)

// A method is a way to buy one segment.
type method struct {
	name   string
	proofs []string
	aheads []string
	shop   buyingClient
	close  func() error
}

// A buyingClient buys segments in this process.
type buyingClient interface {
	// ahead does what may be done before seg is wanted. It costs nothing.
	ahead(ctx context.Context, seg htlcdash.Segment, how string) error
	// have returns when the plain segment is here.
	have(ctx context.Context, seg htlcdash.Segment) error
	counter() *wire
}

// settling is how long after a purchase its costs still count: the provider
// books its sale.
const settling = 50 * time.Millisecond

// purchase buys the same segments in several ways of one provider over one
// channel, by turns, and measures each purchase: what comes before the segment
// is there, what goes over the line, and the time of both processors.
func purchase(ctx context.Context, s *stage, r *Report) (err error) {
	r.Rounds = s.rounds(20)
	var rungs []rung
	for _, l := range lengths {
		rungs = append(rungs, noise(l.rung, 3*r.Rounds, l.bytes))
	}
	s.Progress("publishing a title of three lengths of segments")
	titles, err := s.made(ctx, "lengths", rungs...)
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	methods, segments, err := s.methods(ctx, sold, "lengths")
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range methods {
			err = errors.Join(err, m.close())
		}
	}()
	for round := range r.Rounds {
		if err := s.quiet(ctx); err != nil {
			return err
		}
		for _, l := range lengths {
			s.Progress(fmt.Sprintf("round %d of %d: %s", round+1, r.Rounds, l.name))
			for n, how := range []string{nothingAhead, offerAhead, proofAhead} {
				seg := segments[l.rung][3*round+n]
				for j := range methods { // each goes first now and then
					m := methods[(j+round)%len(methods)]
					if !slices.Contains(m.aheads, how) {
						continue
					}
					if err := m.measure(ctx, r, sold, l.name, how, seg); err != nil {
						return fmt.Errorf("%s, %s: %w", l.name, m.name, err)
					}
				}
			}
		}
	}
	purchaseRows(r, methods)
	return s.proofShares(ctx, r)
}

// methods returns the ways to buy, each with a customer of its own, and what all
// of them buy.
func (s *stage) methods(ctx context.Context, sold *process, name string) ([]method, map[string][]htlcdash.Segment, error) {
	all := []string{nothingAhead, offerAhead, proofAhead}
	methods := []method{
		{name: "prepaid", aheads: all[:2]},
		{name: vole.Bits80.Name(), proofs: []string{vole.Bits80.Name()}, aheads: all},
		{name: vole.Bits128.Name(), proofs: []string{vole.Bits128.Name()}, aheads: all[1:2]},
		{name: "unproved", aheads: all[:2]},
	}
	var t opened
	for i, m := range methods {
		c, err := s.customer(ctx, sold, m.proofs)
		if err != nil {
			return nil, nil, err
		}
		if t, err = c.open(ctx, name); err != nil {
			return nil, nil, err
		}
		methods[i].shop, methods[i].close = patron{c}, c.close
		if m.name == "prepaid" {
			methods[i].shop = newPrepayer(c, sold.url, name, t.Title)
		}
	}
	return methods, t.segments, nil
}

// measure buys seg.
func (m method) measure(ctx context.Context, r *Report, sold *process, length, how string, seg htlcdash.Segment) error {
	if err := m.shop.ahead(ctx, seg, how); err != nil {
		return err
	}
	time.Sleep(settling)
	line, proofs := m.shop.counter().all.Load(), m.shop.counter().body("/v1/proofs")
	theirs, err := sold.busy()
	if err != nil {
		return err
	}
	ours := selfBusy()
	began := time.Now()
	if err := m.shop.have(ctx, seg); err != nil {
		return err
	}
	took := time.Since(began)
	time.Sleep(settling)
	after, err := sold.busy()
	if err != nil {
		return err
	}
	name := length + ", " + m.name
	r.sample(name+", "+how+", ms", ms(took))
	if how != nothingAhead {
		return nil // part of what it costs went before
	}
	r.sample(name+", provider CPU ms", ms(after-theirs))
	r.sample(name+", viewer CPU ms", ms(selfBusy()-ours))
	share := func(n int64) float64 { return 100 * float64(n) / float64(seg.Length) }
	r.sample(name+", proof %", share(m.shop.counter().body("/v1/proofs")-proofs))
	r.sample(name+", added %", share(m.shop.counter().all.Load()-line-seg.Length))
	return nil
}

func purchaseRows(r *Report, methods []method) {
	for _, l := range lengths {
		for _, m := range methods {
			name := l.name + ", " + m.name
			plain := l.name + ", prepaid"
			if name == plain {
				for _, how := range m.aheads {
					r.fact(plain+", "+how, "ms", r.median(plain+", "+how+", ms"))
					r.fact("  95 of 100 within", "ms", quantile(r.Samples[plain+", "+how+", ms"], 0.95))
				}
				continue
			}
			for _, how := range m.aheads {
				against := how
				if how == proofAhead {
					against = offerAhead
				}
				mine, theirs := r.Samples[name+", "+how+", ms"], r.Samples[plain+", "+against+", ms"]
				r.added(name+", "+how+": added", "ms", median(mine), median(theirs))
				r.added("  95 of 100 within: added", "ms", quantile(mine, 0.95), quantile(theirs, 0.95))
			}
			if !slices.Contains(m.aheads, nothingAhead) {
				continue
			}
			r.fact("  proof, of the segment's bytes", "%", r.median(name+", proof %"))
			r.beside("  all added bytes", "%", name+", added %", plain+", added %", "prepaid", 0)
			// A processor's time has no outliers that mean nothing: all of it was spent.
			for _, who := range []string{"provider", "viewer"} {
				mine, theirs := mean(r.Samples[name+", "+who+" CPU ms"]), mean(r.Samples[plain+", "+who+" CPU ms"])
				r.add(Row{What: "  CPU of the " + who, Unit: "ms", Ours: mine, Baseline: theirs, Of: "prepaid", Ratio: mine / theirs})
			}
		}
	}
	r.note("added: to what prepaid takes, in all from wanting a segment to having it plain; prepaid needs no sealed bytes, and proves nothing")
}

// added adds a row of a difference.
func (r *Report) added(what, unit string, ours, baseline float64) {
	r.add(Row{What: what, Unit: unit, Ours: ours - baseline, Baseline: baseline, Of: "prepaid in all"})
}

// mostProof is the share of proofs in the bytes, in percent, that groups are
// made for.
const mostProof = 10

// proofShares says what proofs add to a film that is published as it comes.
func (s *stage) proofShares(ctx context.Context, r *Report) error {
	titles, err := s.film(ctx)
	if err != nil {
		return err
	}
	t, err := title.OpenDir(filepath.Join(titles, filmName))
	if err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		segs, err := t.Segments(ctx, rep.ID)
		if err != nil {
			return err
		}
		keys, bytes := map[[32]byte]bool{}, int64(0)
		for _, seg := range segs {
			keys[seg.KeyHash] = true
			bytes += seg.Length
		}
		share := 100 * float64(len(keys)*(vole.Bits80.Length(proof.Link)+4)) / float64(bytes)
		r.atMost(fmt.Sprintf("proofs of the film, %s (%d segments, %d keys)", rep.ID, len(segs), len(keys)), "%", share, mostProof)
	}
	return nil
}

// A patron buys by our own exchange.
type patron struct{ *customer }

func (p patron) counter() *wire { return p.wire }

func (p patron) ahead(ctx context.Context, seg htlcdash.Segment, how string) error {
	switch how {
	case offerAhead:
		p.buyer.Prepare(ctx, []htlcdash.Segment{seg})
	case proofAhead:
		return p.buyer.Ready(ctx, seg)
	}
	return nil
}

func (p patron) have(ctx context.Context, seg htlcdash.Segment) error { return p.buy(ctx, seg) }

// A prepayer is a client of L402, as there are many: it pays what a 402 asks,
// and then gets the plain bytes, if the provider is honest.
type prepayer struct {
	wire       *wire
	payer      lightning.Payer
	base       string
	title      *title.Title
	challenges map[htlcdash.Root]challenge // asked for ahead
}

// A challenge is what a 402 says.
type challenge struct {
	token   string
	invoice lightning.Invoice
}

func newPrepayer(c *customer, url, name string, t *title.Title) *prepayer {
	return &prepayer{c.wire, c.node, url + "/t/" + name + "/", t, map[htlcdash.Root]challenge{}}
}

func (p *prepayer) counter() *wire { return p.wire }

func (p *prepayer) ahead(ctx context.Context, seg htlcdash.Segment, how string) error {
	if how == nothingAhead {
		return nil
	}
	c, err := p.challenge(ctx, seg)
	p.challenges[seg.Sealed] = c
	return err
}

func (p *prepayer) have(ctx context.Context, seg htlcdash.Segment) (err error) {
	c, ok := p.challenges[seg.Sealed]
	delete(p.challenges, seg.Sealed)
	if !ok {
		if c, err = p.challenge(ctx, seg); err != nil {
			return err
		}
	}
	paid, err := p.payer.Pay(ctx, c.invoice, 2*lightning.Sat)
	if err != nil {
		return err
	}
	preimage := paid.Preimage.Reveal()
	body, status, _, err := p.get(ctx, seg, "L402 "+c.token+":"+hex.EncodeToString(preimage[:]))
	if err == nil && (status != http.StatusOK || int64(len(body)) != seg.Length) {
		err = fmt.Errorf("prepaid: %d bytes, status %d", len(body), status)
	}
	return err
}

var l402 = regexp.MustCompile(`^L402 .*token="([^"]+)".*invoice="([^"]+)"`)

func (p *prepayer) challenge(ctx context.Context, seg htlcdash.Segment) (c challenge, err error) {
	_, status, header, err := p.get(ctx, seg, "")
	if err != nil {
		return c, err
	}
	for _, line := range header.Values("WWW-Authenticate") {
		if m := l402.FindStringSubmatch(line); status == http.StatusPaymentRequired && m != nil {
			inv, err := lightning.DecodeInvoice(m[2])
			return challenge{m[1], inv}, err
		}
	}
	return c, fmt.Errorf("prepaid: no challenge of L402, status %d", status)
}

func (p *prepayer) get(ctx context.Context, seg htlcdash.Segment, authorization string) (body []byte, status int, header http.Header, err error) {
	var at string
	for _, rep := range p.title.Manifest.Representations() {
		if rep.ID == seg.Representation {
			at = rep.Segments[seg.Index].Path
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+at, nil)
	if err != nil {
		return nil, 0, nil, err
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := p.wire.client.Do(r)
	if err != nil {
		return nil, 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.StatusCode, resp.Header, err
}

// quantile is the least sample that a share of all are not above; 0 of nothing.
func quantile(v []float64, share float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[max(0, int(math.Ceil(share*float64(len(v))))-1)]
}

// mean is 0 of nothing.
func mean(v []float64) float64 { return sum(v) / math.Max(1, float64(len(v))) }

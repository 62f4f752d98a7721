package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/title"
)

const (
	strangersAtOnce = 32
	strangersRate   = 500 // requests a second, each from another address
	greedyOnes      = 100
	greedyPause     = 100 * time.Millisecond // after a refusal
	knocking        = 3 * time.Second        // strangers of one kind, in one turn
	viewings        = 30                     // segments that the viewer buys in one turn
	viewingPace     = 500 * time.Millisecond
)

// crowd has strangers ask a provider as fast as it answers, beside a server
// that knows only one answer; and has a viewer buy, alone and amid strangers
// and holders of credentials who take all that they get and never pay.
func crowdAt(ctx context.Context, s *stage, r *Report) (err error) {
	r.Rounds = s.rounds(3)
	titles, err := s.made(ctx, "crowd", noise("v", max(2*r.Rounds*viewings, 200), 100_000))
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles, "--offer-rate", "500", "--max-open-offers", "20000")
	if err != nil {
		return err
	}
	c, err := s.customer(ctx, sold, proved)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	film, err := c.open(ctx, "crowd")
	if err != nil {
		return err
	}
	greedy, err := introduce(ctx, sold.url, greedyOnes)
	if err != nil {
		return err
	}
	if err := s.knock(ctx, r, sold, film.segments["v"][0]); err != nil {
		return err
	}
	return s.amid(ctx, r, sold, c, film, greedy)
}

// A knock is a request of a stranger.
type knock struct {
	name, method, path string
	body               []byte
	header             http.Header
}

func knocks(seg htlcdash.Segment) []knock {
	root := seg.Sealed.String()
	stranger := credential.Credential{}
	if key, err := credential.NewIssuerKey([32]byte{1}, 1); err == nil {
		token := credential.Token{Nonce: [32]byte{1}, KeyID: key.ID()}
		stranger = credential.Credential{Token: token, Shared: key.Redeem(token)}
	}
	foreign := http.Header{"Authorization": {stranger.Authorization(http.MethodPost, "/v1/offers", nil, time.Now())}}
	return []knock{
		{name: "who sells", method: http.MethodGet, path: "/v1/provider"},
		{name: "what is sold", method: http.MethodGet, path: "/v1/titles"},
		{name: "media, unpaid", method: http.MethodGet, path: "/t/crowd/v/1.m4s"},
		{name: "offers, no credential", method: http.MethodPost, path: "/v1/offers", body: make([]byte, 1000)},
		{name: "offers, foreign credential", method: http.MethodPost, path: "/v1/offers", header: foreign},
		{name: "no such bytes", method: http.MethodGet, path: "/sealed/" + root[1:] + "0"},
	}
}

// knock counts the answers a second to strangers of each kind.
func (s *stage) knock(ctx context.Context, r *Report, sold *process, seg htlcdash.Segment) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := bytes.Repeat([]byte("x"), 500)
	plain := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })}
	served := make(chan error, 1)
	go func() { served <- plain.Serve(l) }()
	defer func() {
		_ = plain.Close()
		<-served
	}()
	list := knocks(seg)
	for round := range r.Rounds {
		for _, k := range list {
			s.Progress(fmt.Sprintf("round %d of %d: strangers ask: %s", round+1, r.Rounds, k.name))
			turns := []func() error{
				func() error { return r.answers(ctx, k.name, sold.url, k) },
				func() error { return r.answers(ctx, k.name+", static", "http://"+l.Addr().String(), k) },
			}
			for i := range turns {
				if err := turns[(i+round)%2](); err != nil {
					return err
				}
			}
		}
	}
	for _, k := range list {
		r.beside("answers to strangers: "+k.name, "/s", k.name, k.name+", static", "a static answer", 0)
	}
	return nil
}

// answers has strangers ask one thing as fast as they can.
func (r *Report) answers(ctx context.Context, name, url string, k knock) error {
	ctx, cancel := context.WithTimeout(ctx, knocking)
	defer cancel()
	var count, failed atomic.Int64
	var work sync.WaitGroup
	began := time.Now()
	for range strangersAtOnce {
		work.Go(func() {
			for ctx.Err() == nil {
				if _, err := send(ctx, strangers, url, k); err == nil {
					count.Add(1)
				} else if ctx.Err() == nil {
					failed.Add(1)
				}
			}
		})
	}
	work.Wait()
	r.sample(name, float64(count.Load())/time.Since(began).Seconds())
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%s: %d requests got no answer", name, n)
	}
	return nil
}

func send(ctx context.Context, client *http.Client, url string, k knock) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, k.method, url+k.path, bytes.NewReader(k.body))
	if err != nil {
		return 0, err
	}
	maps.Copy(req.Header, k.header)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// amid has the viewer buy, alone and amid the crowd, in turns.
func (s *stage) amid(ctx context.Context, r *Report, sold *process, c *customer, film opened, greedy []credential.Credential) error {
	segs := film.segments["v"]
	if err := c.buy(ctx, segs[0]); err != nil { // a route is learnt
		return err
	}
	segs = segs[1:]
	for round := range r.Rounds {
		for _, name := range []string{"alone", "amid the crowd"} {
			s.Progress(fmt.Sprintf("round %d of %d: a viewer, %s", round+1, r.Rounds, name))
			mine := segs[:viewings-1]
			segs = segs[viewings-1:]
			crowd := func() {}
			if name != "alone" {
				crowd = s.crowd(ctx, r, sold, film, greedy)
			}
			err := c.view(ctx, r, name, mine)
			crowd()
			if err != nil {
				return err
			}
		}
	}
	for _, p := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p95", 0.95}} {
		with, without := quantile(r.Samples["amid the crowd"], p.share), quantile(r.Samples["alone"], p.share)
		r.add(Row{What: "time to segment amid the crowd, " + p.name, Unit: "ms", Ours: with, Baseline: without, Of: "alone", Ratio: with / without})
	}
	r.fact("  provider's CPU meanwhile", "cores", r.median("provider's CPU"))
	r.atMost("  provider's memory, peak", "MB", slices.Max(r.Samples["provider's memory"]), providerMemory)
	r.fact("  answers to strangers", "/s", r.median("strangers answered"))
	r.fact("  answers to the greedy", "/s", r.median("greedy answered"))
	r.fact("  of them refusals", "/s", r.median("greedy refused"))
	return nil
}

// view buys segments at an even pace.
func (c *customer) view(ctx context.Context, r *Report, name string, segs []htlcdash.Segment) error {
	tick := time.NewTicker(viewingPace)
	defer tick.Stop()
	for _, seg := range segs {
		began := time.Now()
		if err := c.buy(ctx, seg); err != nil {
			return err
		}
		r.sample(name, ms(time.Since(began)))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// crowd lets strangers and greedy ones ask until the returned function is
// called, which keeps what the provider spent on them.
func (s *stage) crowd(ctx context.Context, r *Report, sold *process, film opened, greedy []credential.Credential) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	var answered, refused, strange atomic.Int64
	list := knocks(film.segments["v"][0])
	for range strangersAtOnce {
		work.Go(func() {
			tick := time.NewTicker(strangersAtOnce * time.Second / strangersRate)
			defer tick.Stop()
			for ctx.Err() == nil {
				client := from(randomLoopback())
				if _, err := send(ctx, client, sold.url, list[rand.IntN(len(list))]); err == nil {
					strange.Add(1)
				}
				client.CloseIdleConnections()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	for i, credential := range greedy {
		work.Go(func() {
			g := grabber{credential: credential, client: from(net.IPv4(127, 9, byte(i), 1)), url: sold.url, title: film.Title, segments: film.segments["v"]}
			for n := 0; ctx.Err() == nil; n++ {
				status := g.grab(ctx, n)
				answered.Add(1)
				if status != http.StatusOK {
					refused.Add(1)
					select {
					case <-time.After(greedyPause):
					case <-ctx.Done():
					}
				}
			}
			g.client.CloseIdleConnections()
		})
	}
	began := time.Now()
	before, _ := sold.cpu()
	return func() {
		after, _ := sold.cpu()
		took := time.Since(began).Seconds()
		_, peak, _ := sold.memory()
		cancel()
		work.Wait()
		r.sample("provider's CPU", (after-before)/took)
		r.sample("provider's memory", peak/1e6)
		r.sample("strangers answered", float64(strange.Load())/took)
		r.sample("greedy answered", float64(answered.Load())/took)
		r.sample("greedy refused", float64(refused.Load())/took)
	}
}

// randomLoopback is an address of this machine, of many.
func randomLoopback() net.IP {
	return net.IPv4(127, byte(10+rand.IntN(200)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
}

// from is a client at an address of its own.
func from(ip net.IP) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
}

// A grabber takes offers, proofs and sealed bytes, and never pays.
type grabber struct {
	credential credential.Credential
	client     *http.Client
	url        string
	title      *title.Title
	segments   []htlcdash.Segment
	sale       exchange.SaleID // an offer that it got
}

// grab takes the n-th thing, and returns the status of the answer; an offer
// that is none counts as a refusal.
func (g *grabber) grab(ctx context.Context, n int) int {
	seg := g.segments[n%len(g.segments)]
	switch n % 3 {
	case 0:
		return g.offers(ctx, n)
	case 1:
		status, _ := g.send(ctx, http.MethodGet, "/sealed/"+seg.Sealed.String(), nil)
		return status
	}
	b, err := json.Marshal(exchange.ProofRequest{Title: g.title.ID, System: "vole-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{g.sale}})
	if err != nil {
		return 0
	}
	status, _ := g.send(ctx, http.MethodPost, "/v1/proofs", b)
	return status
}

func (g *grabber) offers(ctx context.Context, n int) int {
	req := exchange.OfferRequest{Title: g.title.ID, Scheme: exchange.SchemeSalted, Try: exchange.Try(n)}
	for _, seg := range g.segments[:16] {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	body, err := json.Marshal(req)
	if err != nil {
		return 0
	}
	status, b := g.send(ctx, http.MethodPost, "/v1/offers", body)
	resp, err := exchange.ParseOfferResponse(b, req)
	if status != http.StatusOK || err != nil {
		return status
	}
	for _, o := range resp.Offers {
		if o.Error != "" {
			return http.StatusServiceUnavailable
		}
		g.sale = o.ID()
	}
	return status
}

func (g *grabber) send(ctx context.Context, method, path string, body []byte) (int, []byte) {
	req, err := http.NewRequestWithContext(ctx, method, g.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", g.credential.Authorization(method, path, body, time.Now()))
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, b
}

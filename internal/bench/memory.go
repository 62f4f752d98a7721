package bench

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/credential"
	"htlcdash/internal/dash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/title"
)

const (
	proxyMemory    = 150 // MB
	providerMemory = 250 // MB
	// steady is how much more memory at the end of the work than in its middle
	// counts as none: collections of garbage come and go.
	steady = 1.15

	twoHours = 3600 // segments of 2 s
	crowd    = 100  // viewers at once
	buyers   = 20   // of them who buy, too
	crowding = 90 * time.Second
)

// memory watches the proxy while a browser plays the film, and while a player
// takes two hours of film as fast as it gets them, and the provider while a
// hundred viewers watch that.
func memory(ctx context.Context, s *stage, r *Report) error {
	titles, err := s.film(ctx)
	if err != nil {
		return err
	}
	long, err := s.long(ctx, titles, twoHours)
	if err != nil {
		return err
	}
	r.Rounds = 1
	if err := viewing(ctx, s, r, titles); err != nil {
		return err
	}
	sold, err := s.serve(ctx, long)
	if err != nil {
		return err
	}
	if err := walking(ctx, s, r, sold); err != nil {
		return err
	}
	return crowded(ctx, s, r, sold)
}

// viewing plays the film in a browser.
func viewing(ctx context.Context, s *stage, r *Report, titles string) error {
	s.Progress("playing the film in a browser")
	sold, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	defer sold.stop()
	p, err := s.proxy(ctx, viewer, sold)
	if err != nil {
		return err
	}
	defer p.stop()
	g := p.gauge()
	w, err := s.watch(ctx, p.url+"/#"+filmName)
	g.stop()
	if err != nil {
		return err
	}
	if !w.Ended {
		return fmt.Errorf("the film stands at %.1f s: %+v", w.Position, w)
	}
	r.Samples["proxy in a browser, MB"] = g.samples
	r.atMost("proxy, the film in a browser, peak", "MB", g.peak(), proxyMemory)
	r.fact("  at the end", "MB", g.samples[len(g.samples)-1])
	return nil
}

// walking takes the best picture and sound of the long title through the proxy,
// as a player with no eyes does.
func walking(ctx context.Context, s *stage, r *Report, sold *process) error {
	p, err := s.proxy(ctx, viewer, sold, "--exposure", "1000 sat")
	if err != nil {
		return err
	}
	defer p.stop()
	base := p.url + "/t/" + filmName + "/"
	m, err := manifest(ctx, base+"manifest.mpd")
	if err != nil {
		return err
	}
	w := &walk{}
	best := map[string]*dash.Representation{}
	for _, rep := range m.Representations() {
		if b := best[rep.ContentType]; b == nil || b.Bandwidth < rep.Bandwidth {
			best[rep.ContentType] = rep
		}
	}
	for _, rep := range best {
		w.total += len(rep.Segments)
	}
	began := time.Now()
	g := p.gauge()
	marks := w.follow(s, g)
	group, each := errgroup.WithContext(ctx)
	for _, rep := range best {
		group.Go(func() error { return w.take(each, base, rep) })
	}
	err = group.Wait()
	at := marks()
	g.stop()
	if err != nil {
		return err
	}
	r.Samples["proxy, two hours, MB"] = g.samples
	r.atMost(fmt.Sprintf("proxy, two hours of film (%d segments bought, %.1f GB) in %.0f s, peak",
		w.total, float64(w.bytes.Load())/gigabyte, time.Since(began).Seconds()), "MB", g.peak(), proxyMemory)
	r.fact("  at 10 %", "MB", at[10])
	r.fact("  at 50 %", "MB", at[50])
	r.growth("  at 100 %", at[100], at[50], "at 50 %")
	return nil
}

// A walk is how far walking is.
type walk struct {
	total       int // segments
	done, bytes atomic.Int64
}

// take asks for all segments of rep, one after another.
func (w *walk) take(ctx context.Context, base string, rep *dash.Representation) error {
	for _, seg := range rep.Segments {
		n, err := patiently(ctx, base+seg.Path)
		if err != nil {
			return err
		}
		w.bytes.Add(n)
		w.done.Add(1)
	}
	return nil
}

// follow notes what a gauge says at 10 and 50 percent of the way. The function
// that it returns ends that, and gives the notes, in MB by percent.
func (w *walk) follow(s *stage, g *gauge) func() map[int]float64 {
	marks := map[int]float64{}
	end := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			percent := int(100 * w.done.Load() / int64(w.total))
			s.Progress(fmt.Sprintf("two hours of film at full speed: %d %%", percent))
			for _, at := range []int{10, 50} {
				if _, ok := marks[at]; percent >= at && !ok {
					marks[at] = g.recent()
				}
			}
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	})
	return func() map[int]float64 {
		close(end)
		work.Wait()
		marks[100] = g.recent()
		return marks
	}
}

// growth adds a row that says whether memory grew.
func (r *Report) growth(what string, now, before float64, of string) {
	r.add(Row{
		What: what, Unit: "MB", Ours: now, Baseline: before, Of: of, Ratio: now / before,
		Bound: fmt.Sprintf("<= %g", steady), Verdict: verdict(now <= before*steady),
	})
}

// manifest reads the MPD that a player gets.
func manifest(ctx context.Context, url string) (*dash.Manifest, error) {
	b, status, err := fetch(ctx, credential.Credential{}, http.MethodGet, url, "", nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d: %w", url, status, err)
	}
	return dash.Parse(b)
}

// patiently asks for a segment as players do, again while it is being bought.
func patiently(ctx context.Context, url string) (int64, error) {
	for range 60 {
		b, status, err := fetch(ctx, credential.Credential{}, http.MethodGet, url, "", nil)
		switch {
		case err != nil:
			return 0, err
		case status == http.StatusOK:
			return int64(len(b)), nil
		case status != http.StatusGatewayTimeout && status != http.StatusServiceUnavailable:
			return 0, fmt.Errorf("%s answers %d", url, status)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, fmt.Errorf("%s is not to be had", url)
}

// strangers is how many connections all viewers together may keep.
var strangers = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * crowd}}

// fetch sends a request for the holder of a credential, if c is any.
func fetch(ctx context.Context, c credential.Credential, method, url, path string, body []byte) ([]byte, int, error) {
	r, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	if !c.Shared.IsZero() {
		r.Header.Set("Authorization", c.Authorization(method, path, body, time.Now()))
	}
	resp, err := strangers.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return b, resp.StatusCode, err
}

// introduce gets n credentials from a provider.
func introduce(ctx context.Context, url string, n int) (got []credential.Credential, err error) {
	p, err := buyer.NewProvider(url, nil)
	if err != nil {
		return nil, err
	}
	info, err := p.Info(ctx)
	if err != nil {
		return nil, err
	}
	for len(got) < n {
		request, pending, err := credential.Blind(credential.PublicKey(info.Credentials.Keys[0].Key), credential.MaxBatch, crand.Reader)
		if err != nil {
			return nil, err
		}
		b, status, err := fetch(ctx, credential.Credential{}, http.MethodPost, url, "/v1/credentials", request)
		if err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("credentials: status %d: %w", status, err)
		}
		batch, err := pending.Finish(b)
		if err != nil {
			return nil, err
		}
		got = append(got, batch...)
	}
	return got[:n], nil
}

// crowded has a hundred viewers ask the provider for offers and sealed bytes
// at the pace of the film; some of them pay.
func crowded(ctx context.Context, s *stage, r *Report, sold *process) (err error) {
	s.Progress(fmt.Sprintf("%d viewers for %v", crowd, crowding))
	c, err := s.customer(ctx, sold, proved)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	film, err := c.open(ctx, filmName)
	if err != nil {
		return err
	}
	credentials, err := introduce(ctx, sold.url, crowd)
	if err != nil {
		return err
	}
	g := sold.gauge()
	limit, cancel := context.WithTimeout(ctx, crowding)
	defer cancel()
	middle := make(chan float64, 1)
	time.AfterFunc(crowding/2, func() { middle <- g.recent() })
	var asked, bought atomic.Int64
	group, each := errgroup.WithContext(limit)
	for i := range crowd {
		group.Go(func() error {
			return pace(each, time.Duration(i)*2*time.Second/crowd, func(n int) error {
				pair := film.pair((37*i + n) % twoHours)
				if i < buyers {
					for _, seg := range pair {
						if err := c.buy(each, seg); err != nil {
							return err
						}
						bought.Add(1)
					}
					return nil
				}
				asked.Add(2)
				return askFor(each, sold.url, credentials[i], film.Title, pair)
			})
		})
	}
	err = group.Wait()
	end := g.recent()
	g.stop()
	if limit.Err() == nil && err != nil {
		return err
	}
	r.Samples["provider with a crowd, MB"] = g.samples
	r.atMost(fmt.Sprintf("provider, %d viewers for %v (%d offers, %d segments sold), peak", crowd, crowding, asked.Load()+bought.Load(), bought.Load()), "MB", g.peak(), providerMemory)
	r.growth("  at the end", end, <-middle, "half way")
	return nil
}

// pace calls do every two seconds, as a player wants its segments.
func pace(ctx context.Context, first time.Duration, do func(n int) error) error {
	time.Sleep(first)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := do(n); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// pair is a segment of some picture and one of some sound.
func (o opened) pair(index int) (pair []htlcdash.Segment) {
	reps := map[string][]string{}
	for _, rep := range o.Manifest.Representations() {
		reps[rep.ContentType] = append(reps[rep.ContentType], rep.ID)
	}
	for _, kind := range names(reps) {
		pair = append(pair, o.segments[reps[kind][rand.IntN(len(reps[kind]))]][index])
	}
	return pair
}

// askFor asks a provider for offers of segments and takes their sealed bytes.
func askFor(ctx context.Context, url string, c credential.Credential, t *title.Title, segs []htlcdash.Segment) error {
	req := exchange.OfferRequest{Title: t.ID, Scheme: exchange.SchemeSalted}
	for _, seg := range segs {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if _, status, err := fetch(ctx, c, http.MethodPost, url, "/v1/offers", body); err != nil || status != http.StatusOK {
		return fmt.Errorf("offers: status %d: %w", status, err)
	}
	for _, seg := range segs {
		b, status, err := fetch(ctx, c, http.MethodGet, url, "/sealed/"+seg.Sealed.String(), nil)
		if err != nil || status != http.StatusOK || int64(len(b)) != seg.SealedBlob().Length {
			return fmt.Errorf("sealed bytes: %d, status %d: %w", len(b), status, err)
		}
	}
	return nil
}

// A gauge reads a process's memory twice a second.
type gauge struct {
	p    *process
	end  chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	samples []float64 // MB; guarded by mu until stop
	most    float64   // MB; guarded by mu
}

func (p *process) gauge() *gauge {
	g := &gauge{p: p, end: make(chan struct{})}
	g.read()
	g.work.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				g.read()
			case <-g.end:
				return
			}
		}
	})
	return g
}

func (g *gauge) read() {
	now, peak, err := g.p.memory()
	if err != nil {
		return // it ends
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples = append(g.samples, round(now/1e6))
	g.most = max(g.most, peak/1e6)
}

// recent is the median of the last five seconds.
func (g *gauge) recent() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return median(g.samples[max(0, len(g.samples)-10):])
}

func (g *gauge) peak() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

func (g *gauge) stop() {
	g.read()
	close(g.end)
	g.work.Wait()
}

package proxy

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"htlcdash"
	"htlcdash/internal/survey"
)

// A Market tells of titles that others sell.
type Market interface {
	// Look asks who sells what, within half a minute. The report is not changed
	// any more.
	Look(ctx context.Context) (survey.Report, error)
	// Want looks for a title from now on, which is added once it is found. The error
	// says why it will not.
	Want(id htlcdash.TitleID) error
}

const (
	marketAge   = 30 * time.Second // for which providers are not asked again
	marketLimit = 45 * time.Second // of one look, and its answer
)

// A look is what was seen of the market, or is being seen.
type look struct {
	done   chan struct{} // closed when the rest is set
	at     time.Time
	report survey.Report
	err    error
}

func (l *look) isOld() bool {
	select {
	case <-l.done:
		return time.Since(l.at) > marketAge
	default:
		return false
	}
}

// lookAround returns what is on sale, seen lately, however many ask.
func (p *Proxy) lookAround(ctx context.Context) (survey.Report, error) {
	p.mu.Lock()
	l := p.seen
	begin := l == nil || l.isOld()
	if begin {
		l = &look{done: make(chan struct{})}
		p.seen = l
	}
	p.mu.Unlock()
	if begin && !p.run(func() { p.ask(l) }) {
		return survey.Report{}, context.Canceled
	}
	select {
	case <-l.done:
		return l.report, l.err
	case <-ctx.Done():
		return survey.Report{}, ctx.Err()
	case <-p.ctx.Done():
		return survey.Report{}, p.ctx.Err()
	}
}

func (p *Proxy) ask(l *look) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(p.ctx, marketLimit)
	defer cancel()
	l.report, l.err = p.market.Look(ctx)
	l.at = time.Now()
}

// apiMarket tells what is on sale, and by whom, as a [survey.Report].
func (p *Proxy) apiMarket(w http.ResponseWriter, r *http.Request) {
	if p.market == nil {
		refuse(w, http.StatusNotFound, "This proxy does not look at the market.")
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(marketLimit)) // fails where the connection has none, in tests
	report, err := p.lookAround(r.Context())
	if err != nil {
		p.log.Info("market", "error", err)
		refuse(w, http.StatusServiceUnavailable, "No provider is known. Name some by proxy.providers, or relays to ask by proxy.relays.")
		return
	}
	answer(w, report)
}

// apiWant asks for a title by its id: {"title": id}. It appears among the titles once
// it is found.
func (p *Proxy) apiWant(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Title htlcdash.TitleID `json:"title"`
	}
	if !readBody(w, r, &q) {
		return
	}
	if p.market == nil {
		refuse(w, http.StatusNotFound, "This proxy does not look at the market.")
		return
	}
	if q.Title == (htlcdash.TitleID{}) {
		refuse(w, http.StatusBadRequest, `The field "title" must be the id of a title.`)
		return
	}
	if err := p.market.Want(q.Title); err != nil {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	answer(w, q)
}

// readBody reads the JSON of a change into q.
func readBody(w http.ResponseWriter, r *http.Request, q any) bool {
	// Fails where the connection has no deadlines, in tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(postLimit))
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPost))
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		refuse(w, http.StatusBadRequest, "The body is not the JSON that is expected here.")
		return false
	}
	return true
}

package proxy

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/web"
	"htlcdash/lightning"
)

const (
	maxPost     = 4 << 10          // bytes of a request's body
	postLimit   = 10 * time.Second // for a body to arrive
	maxRecent   = 400              // purchases that the page gets at once, and that are remembered
	eventGap    = 250 * time.Millisecond
	eventBeat   = 15 * time.Second
	maxWatchers = 32 // streams of events at once
)

func (p *Proxy) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", web.Handler(web.Viewer))
	mux.HandleFunc("GET /t/{title}/manifest.mpd", p.withFilm(p.manifest))
	mux.HandleFunc("GET /t/{title}/{file...}", p.withFilm(func(w http.ResponseWriter, r *http.Request, f *film) {
		p.media(w, r, f, r.PathValue("file"))
	}))
	mux.HandleFunc("GET /api/titles", p.apiTitles)
	mux.HandleFunc("GET /api/state", p.apiState)
	mux.HandleFunc("GET /api/events", p.apiEvents)
	mux.HandleFunc("GET /api/ledger", p.apiLedger)
	mux.HandleFunc("GET /api/ledger.csv", p.apiLedgerCSV)
	mux.HandleFunc("GET /api/market", p.apiMarket)
	mux.HandleFunc("POST /api/want", p.apiWant)
	mux.HandleFunc("POST /api/budget", p.apiBudget)
	mux.HandleFunc("POST /api/preferences", p.apiPreferences)
	mux.HandleFunc("POST /api/stop", p.apiSwitch(func(b Buyer, id htlcdash.TitleID) { b.Stop(id) }))
	mux.HandleFunc("POST /api/resume", p.apiSwitch(func(b Buyer, id htlcdash.TitleID) { b.Resume(id) }))
	return mux
}

func (p *Proxy) withFilm(next func(http.ResponseWriter, *http.Request, *film)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := p.film(r.PathValue("title"))
		if err != nil {
			refuse(w, http.StatusNotFound, err.Error())
			return
		}
		next(w, r, f)
	}
}

// manifest gives the MPD to a player. Our own page asks for all rungs ("all"),
// because it follows the agent, and tells where it begins ("t", in seconds);
// others see what is on the menu.
func (p *Proxy) manifest(w http.ResponseWriter, r *http.Request, f *film) {
	ours := r.URL.Query().Has("all")
	if r.Method != http.MethodHead {
		at, _ := strconv.ParseFloat(r.URL.Query().Get("t"), 64) // none is 0
		f.load(time.Duration(min(max(at, 0), 1e6)*float64(time.Second)), ours)
	}
	mpd, err := f.manifest.ForPlayer(f.options(r.Context(), ours))
	if err != nil {
		p.log.Error("MPD for a player", "title", f.name, "error", err)
		refuse(w, http.StatusInternalServerError, "This MPD cannot be made fit for a player.")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/dash+xml")
	h.Set("Content-Length", strconv.Itoa(len(mpd)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(mpd) // the player may be gone
}

func (p *Proxy) apiTitles(w http.ResponseWriter, r *http.Request) {
	titles := []TitleReport{}
	for _, f := range p.titles() {
		titles = append(titles, f.report())
	}
	answer(w, titles)
}

func (p *Proxy) apiState(w http.ResponseWriter, r *http.Request) {
	f, ok := p.chosen(w, r)
	if ok {
		answer(w, p.state(f))
	}
}

func (p *Proxy) state(f *film) State {
	s := State{Wallet: p.walletReport()}
	if f != nil {
		f.warmUp()
		s.Title = f.state()
	}
	return s
}

// chosen finds the title that the query names; nil if it names none.
func (p *Proxy) chosen(w http.ResponseWriter, r *http.Request) (*film, bool) {
	name := r.URL.Query().Get("title")
	if name == "" {
		return nil, true
	}
	f, err := p.film(name)
	if err != nil {
		refuse(w, http.StatusNotFound, err.Error())
	}
	return f, err == nil
}

// apiEvents streams the state as it changes, at most four times a second, and
// the purchases: the last ones first, then each as it is settled.
func (p *Proxy) apiEvents(w http.ResponseWriter, r *http.Request) {
	f, ok := p.chosen(w, r)
	if !ok {
		return
	}
	if !p.admit() {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "Too many pages watch at once.")
		return
	}
	defer p.dismiss()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	s := stream{w: w, out: http.NewResponseController(w)}
	beat := time.NewTicker(balanceAge)
	defer beat.Stop()
	seen := p.bookmark()
	if f != nil {
		past, err := p.past(r.Context(), f, maxRecent)
		if err != nil {
			p.log.Warn("purchases", "title", f.name, "error", err)
		}
		slices.Reverse(past)
		s.send("purchases", past)
	}
	for s.err == nil {
		change := p.nextChange()
		var news []PurchaseReport
		if news, seen = p.since(seen, f); len(news) > 0 {
			s.send("purchases", news)
		}
		s.sendNew("state", p.state(f))
		select {
		case <-time.After(eventGap):
		case <-p.ctx.Done():
			return
		case <-r.Context().Done():
			return
		}
		select {
		case <-change:
		case <-beat.C: // the balance, and what fades with time
		case <-p.ctx.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
}

// A stream writes server-sent events (WHATWG HTML, 9.2).
type stream struct {
	w    http.ResponseWriter
	out  *http.ResponseController
	last []byte
	sent time.Time
	err  error
}

func (s *stream) send(event string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("proxy: " + err.Error()) // our own types
	}
	s.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", event, b))
}

// sendNew sends v if it is not what was sent before, or a comment now and then
// so that a dead connection is noticed.
func (s *stream) sendNew(event string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("proxy: " + err.Error()) // our own types
	}
	switch {
	case !bytes.Equal(b, s.last):
		s.last = b
		s.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", event, b))
	case time.Since(s.sent) > eventBeat:
		s.write([]byte(":\n\n"))
	}
}

func (s *stream) write(b []byte) {
	if s.err != nil {
		return
	}
	s.out.SetWriteDeadline(time.Now().Add(writeLimit)) // best effort
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.out.Flush()
	}
	s.sent = time.Now()
}

func (p *Proxy) apiLedger(w http.ResponseWriter, r *http.Request) {
	f, ok := p.chosen(w, r)
	if !ok || f == nil {
		refuseUnless(w, ok, "Name a title: /api/ledger?title=...")
		return
	}
	past, err := p.past(r.Context(), f, maxRecent)
	if err != nil {
		p.broken(w, "purchases", err)
		return
	}
	answer(w, past)
}

// apiLedgerCSV gives all payments for a title, row by row, newest first.
func (p *Proxy) apiLedgerCSV(w http.ResponseWriter, r *http.Request) {
	f, ok := p.chosen(w, r)
	if !ok || f == nil {
		refuseUnless(w, ok, "Name a title: /api/ledger.csv?title=...")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="purchases.csv"`)
	h.Set("Cache-Control", "no-store")
	out := csv.NewWriter(w)
	out.Write([]string{"time", "title", "representation", "segment", "state", "amount_msat", "fee_msat", "provider", "payment_hash", "reason"})
	for b, err := range p.all(r.Context(), f.id, 0) {
		if err != nil {
			p.log.Warn("purchases", "title", f.name, "error", err)
			panic(http.ErrAbortHandler) // part of the books must not pass for the whole
		}
		out.Write([]string{
			b.At.UTC().Format(time.RFC3339Nano), b.Title.String(), cell(b.Representation), strconv.Itoa(b.Index), b.State,
			strconv.FormatInt(int64(b.Amount), 10), strconv.FormatInt(int64(b.Fee), 10), cell(b.Provider), b.Hash.String(), cell(b.Reason),
		})
	}
	out.Flush()
}

// cell keeps a spreadsheet from taking a stranger's words for a formula.
func cell(s string) string {
	if s != "" && bytes.ContainsRune([]byte("=+-@\t\r"), rune(s[0])) {
		return "'" + s
	}
	return s
}

func refuseUnless(w http.ResponseWriter, told bool, why string) {
	if told {
		refuse(w, http.StatusBadRequest, why)
	}
}

// all gives the purchases of a title, newest first; limit 0 means all.
func (p *Proxy) all(ctx context.Context, id htlcdash.TitleID, limit int) iter.Seq2[buyer.Purchase, error] {
	if p.purchases != nil {
		return p.purchases(ctx, id, limit)
	}
	return func(yield func(buyer.Purchase, error) bool) {
		p.mu.Lock()
		recent := slices.Clone(p.recent)
		p.mu.Unlock()
		seen := map[lightning.Hash]bool{} // a purchase is in it with each of its states
		for _, b := range slices.Backward(recent) {
			if b.Title != id || seen[b.Hash] {
				continue
			}
			seen[b.Hash] = true
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (p *Proxy) past(ctx context.Context, f *film, limit int) ([]PurchaseReport, error) {
	past := []PurchaseReport{}
	for b, err := range p.all(ctx, f.id, limit) {
		if err != nil {
			return past, err
		}
		past = append(past, f.purchase(b))
	}
	return past, nil
}

// apiBudget bounds what a title may cost: {"title": id or name, "msat": n}.
func (p *Proxy) apiBudget(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Title string `json:"title"`
		Msat  *int64 `json:"msat"`
	}
	f, ok := p.post(w, r, &q, &q.Title)
	if !ok {
		return
	}
	if q.Msat == nil || *q.Msat < 0 {
		refuse(w, http.StatusBadRequest, `The field "msat" must be a whole number, 0 or more.`)
		return
	}
	if err := p.buyer.SetTitleBudget(r.Context(), f.id, lightning.Msat(*q.Msat)); err != nil {
		p.broken(w, "budget", err)
		return
	}
	f.settle() // what was too dear may not be now
	p.changed()
	answer(w, p.state(f))
}

// apiSwitch stops or resumes the payments for a title: {"title": id or name}.
func (p *Proxy) apiSwitch(do func(Buyer, htlcdash.TitleID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Title string `json:"title"`
		}
		if f, ok := p.post(w, r, &q, &q.Title); ok {
			do(p.buyer, f.id)
			f.settle()
			p.changed()
			answer(w, p.state(f))
		}
	}
}

// post reads the body of a change into q and finds the sealed title that it
// names.
func (p *Proxy) post(w http.ResponseWriter, r *http.Request, q any, name *string) (*film, bool) {
	if !readBody(w, r, q) {
		return nil, false
	}
	f, err := p.film(*name)
	if err != nil {
		refuse(w, http.StatusNotFound, err.Error())
		return nil, false
	}
	if !f.paid {
		refuse(w, http.StatusConflict, "This title is free: there is nothing to pay.")
		return nil, false
	}
	return f, true
}

func (p *Proxy) broken(w http.ResponseWriter, what string, err error) {
	if !errors.Is(err, context.Canceled) {
		p.log.Error(what, "error", err)
	}
	refuse(w, http.StatusInternalServerError, "That did not work. The proxy's log says why.")
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("proxy: " + err.Error()) // our own types
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(b) // the client may be gone
}

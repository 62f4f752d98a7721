package seller

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/title"
	"htlcdash/internal/web"
	"htlcdash/lightning"
)

// handler answers r, or returns an error that the caller shows.
type handler func(w http.ResponseWriter, r *http.Request) error

// Handler is the face for viewers.
func (s *Seller) Handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h handler, methods ...string) {
		mux.Handle(pattern, s.shown(methods, h))
	}
	route("/v1/provider", s.serveProvider, http.MethodGet, http.MethodHead)
	route("/v1/titles", s.serveTitles, http.MethodGet, http.MethodHead)
	route("/v1/credentials", s.serveCredentials, http.MethodPost)
	route("/v1/offers", s.serveOffers, http.MethodPost)
	route("/v1/proofs", s.serveProofs, http.MethodPost)
	route("/v1/keys", s.serveKeys, http.MethodPost)
	route("/v1/files", s.serveFiles, http.MethodGet, http.MethodHead)
	route("/v1/files/{root}", s.serveFile, http.MethodGet, http.MethodHead)
	route("/v1/files/{root}/layer", s.serveLayer, http.MethodGet, http.MethodHead)
	route("/v1/chunks", s.serveChunks, http.MethodPost)
	route("/v1/carriage", s.serveCarriage, http.MethodPost)
	route("/sealed/{root}", s.serveSealed, http.MethodGet, http.MethodHead)
	route("/sealed/{shard}/{root}", s.serveSealed, http.MethodGet, http.MethodHead) // as in a title's folder
	route("/t/{name}/{path...}", s.serveTitle, http.MethodGet, http.MethodHead)
	route("/v1/relay", s.serveDirectory, http.MethodGet)
	route("/v1/announcements", s.serveDirectory, http.MethodGet, http.MethodHead)
	route("/", s.serveRest, http.MethodGet, http.MethodHead)
	return s.logged(crossOrigin(mux))
}

// serveDirectory serves the provider's part of the directory, which may believe
// the remote address.
func (s *Seller) serveDirectory(w http.ResponseWriter, r *http.Request) error {
	if s.config.Directory == nil {
		return serveNothing(w, r)
	}
	r = r.Clone(r.Context())
	r.RemoteAddr = netip.AddrPortFrom(s.from(r), 0).String()
	s.config.Directory.ServeHTTP(w, r)
	return nil
}

// serveRest answers Nostr clients that know only the provider's address.
func (s *Seller) serveRest(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Path == "/" && (strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || strings.Contains(r.Header.Get("Accept"), "application/nostr+json")) {
		return s.serveDirectory(w, r)
	}
	return serveNothing(w, r)
}

func serveNothing(_ http.ResponseWriter, r *http.Request) error {
	return fmt.Errorf("%.64q: %w", r.URL.Path, htlcdash.ErrNotFound)
}

// shown calls h for the methods that it knows, and shows its error.
func (s *Seller) shown(methods []string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		patience(w, 0)
		// Of several ranges only the first counts: many make an answer longer
		// than the file.
		if first, _, more := strings.Cut(r.Header.Get("Range"), ","); more {
			r.Header.Set("Range", first)
		}
		err := errMethod
		switch {
		case slices.Contains(methods, r.Method):
			err = h(w, r)
		case r.Method == http.MethodOptions:
			w.Header().Set("Allow", allow(methods))
			w.WriteHeader(http.StatusNoContent)
			return
		default:
			w.Header().Set("Allow", allow(methods))
		}
		if err == nil {
			return
		}
		p := status(err)
		if p.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", s.challengeLine())
		}
		if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
			s.log.Error("request", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		p.write(w, r)
	})
}

func allow(methods []string) string {
	return strings.Join(append(slices.Clone(methods), http.MethodOptions), ", ")
}

// What pages of other origins may do: all that ours may. Browsers ask once in
// two hours for each URL, the most that they allow.
const (
	corsMethods = "GET, HEAD, POST, OPTIONS"
	corsHeaders = "Authorization, Range, If-Range, If-None-Match, Content-Type, Accept-Payment"
	corsExposed = "WWW-Authenticate, Payment-Receipt, Content-Range, Accept-Ranges, Content-Length, ETag, Retry-After, Date"
	corsMaxAge  = "7200"
)

func crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", corsExposed)
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", corsMaxAge)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A recorder notes what a response was. It hands on ReadFrom, without which
// files would pass through this program's memory.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(code int) {
	if w.status == 0 || w.status < http.StatusOK {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

// Unwrap serves http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// logged counts requests, and logs them without headers and queries: those can
// hold credentials.
func (s *Seller) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			s.requests.Add(1)
			s.bytes.Add(rec.bytes)
			if s.log.Enabled(r.Context(), slog.LevelDebug) {
				s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status,
					"bytes", rec.bytes, "took", time.Since(start), "from", address(r, s.config.TrustedProxies))
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// providerInfo is GET /v1/provider.
type providerInfo struct {
	Version  int              `json:"version"`
	Node     lightning.NodeID `json:"node"`
	Alias    string           `json:"alias"`
	Schemes  []string         `json:"schemes"`
	MaxBatch int              `json:"max_batch"`

	Key         htlcdash.ProviderID `json:"key"`    // signs offers
	Proofs      []string            `json:"proofs"` // in which offers are proved
	Credentials credentialsInfo     `json:"credentials"`
	Carriage    *exchange.Carriage  `json:"carriage,omitempty"` // what sealed bytes cost; nil: nothing
}

func (s *Seller) serveProvider(w http.ResponseWriter, r *http.Request) error {
	credentials, err := s.credentialsInfo()
	if err != nil {
		return err
	}
	info := providerInfo{
		Version:     1,
		Node:        s.config.Node,
		Alias:       s.config.Alias,
		Schemes:     []string{exchange.SchemeSalted},
		MaxBatch:    exchange.MaxBatch,
		Key:         s.till.Key.ID(),
		Proofs:      []string{},
		Credentials: credentials,
	}
	if terms := s.carriage(); !terms.Free() {
		info.Carriage = &terms
		if !s.shelf.Load().sells() {
			info.Schemes = []string{}
		}
	}
	if len(s.files.Load().list) > 0 {
		info.Schemes = append(info.Schemes, exchange.SchemeKeyed)
	}
	for _, sys := range s.config.Proofs {
		info.Proofs = append(info.Proofs, sys.Name())
	}
	for _, t := range s.shelf.Load().byName {
		if t.prepaid {
			info.Schemes = append(info.Schemes, exchange.SchemePrepaid)
			break
		}
	}
	return serveInfo(w, r, info)
}

// titlesInfo is GET /v1/titles.
type titlesInfo struct {
	Titles []titleInfo `json:"titles"`
}

type titleInfo struct {
	ID              htlcdash.TitleID     `json:"id"`
	Name            string               `json:"name"`
	Title           string               `json:"title"` // for people; empty if the MPD has none
	Publisher       htlcdash.PublisherID `json:"publisher"`
	MPD             string               `json:"mpd"`
	Duration        int64                `json:"duration_ms"`
	Representations int                  `json:"representations"`
	Min             lightning.Msat       `json:"min_msat"`             // the whole title on its cheapest rungs
	Max             lightning.Msat       `json:"max_msat"`             // and on its dearest, as the publisher asks
	Asks            *asks                `json:"asks,omitempty"`       // nil: what the keys cost upstream decides, or there are none
	BytesOnly       bool                 `json:"bytes_only,omitempty"` // its bytes are carried, and no keys sold
	MinBytes        int64                `json:"min_bytes"`            // sealed, on the cheapest rungs
	MaxBytes        int64                `json:"max_bytes"`            // and on the dearest
}

// asks is what the keys cost here.
type asks struct {
	Min lightning.Msat `json:"min_msat"`
	Max lightning.Msat `json:"max_msat"`
}

func (s *Seller) serveTitles(w http.ResponseWriter, r *http.Request) error {
	return serveInfo(w, r, s.shelf.Load().list())
}

// listed is GET /v1/titles of a shelf.
func listed(shelf *shelf, c Config) json.RawMessage {
	info := titlesInfo{Titles: []titleInfo{}}
	for _, name := range shelf.names() {
		t := shelf.byName[name]
		low, high := t.Manifest.PriceRange()
		cheapest, dearest := t.extent(c.price)
		info.Titles = append(info.Titles, titleInfo{
			ID:              t.ID,
			Name:            name,
			Title:           t.Manifest.Title(),
			Publisher:       t.Publisher,
			MPD:             mpdPath(name),
			Duration:        t.Manifest.Duration().Milliseconds(),
			Representations: len(t.lists),
			Min:             low,
			Max:             high,
			BytesOnly:       t.keyless,
			MinBytes:        cheapest.bytes,
			MaxBytes:        dearest.bytes,
		})
		if !t.keyless && !t.resold {
			info.Titles[len(info.Titles)-1].Asks = &asks{cheapest.asked, dearest.asked}
		}
	}
	return mustJSON(info)
}

// An extent is what Representations come to: one, or one of each kind.
type extent struct {
	published, asked lightning.Msat // for their keys, by the publisher and here
	bytes            int64          // sealed
}

func (e extent) plus(f extent) extent {
	return extent{e.published + f.published, e.asked + f.asked, e.bytes + f.bytes}
}

// extent is that of the cheapest and of the dearest Representations of a title, of the
// same as [dash.Manifest.PriceRange] means; of those at one price, of the one with
// fewest bytes and of that with most.
func (t *sealedTitle) extent(price func(htlcdash.Segment) lightning.Msat) (cheapest, dearest extent) {
	type kind struct {
		period  int
		content string
	}
	low, high := map[kind]extent{}, map[kind]extent{}
	for _, rep := range t.Manifest.Representations() {
		e := extent{published: rep.Pay.Total}
		for i, seg := range t.lists[rep.ID] {
			e.bytes += htlcdash.SealedLength(seg.Length)
			if first, _ := seg.Opens(); first == i {
				e.asked += price(seg)
			}
		}
		more := func(a, b extent) bool {
			return cmp.Or(cmp.Compare(a.published, b.published), cmp.Compare(a.bytes, b.bytes)) > 0
		}
		k := kind{rep.Period, rep.ContentType}
		if old, ok := low[k]; !ok || more(old, e) {
			low[k] = e
		}
		if old, ok := high[k]; !ok || more(e, old) {
			high[k] = e
		}
	}
	for k := range low {
		cheapest, dearest = cheapest.plus(low[k]), dearest.plus(high[k])
	}
	return cheapest, dearest
}

func serveInfo(w http.ResponseWriter, r *http.Request, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	writeJSON(w, r, http.StatusOK, v)
	return nil
}

// OperatorHandler is the face for the operator: a page, and what it shows. It
// has no password. It belongs on a loopback address, and answers only requests
// that name it by an IP address or as "localhost", so that no page of another
// site can reach it by a name that points here.
func (s *Seller) OperatorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/provider", s.shown([]string{http.MethodGet, http.MethodHead}, s.serveReport))
	mux.Handle("/api/events", s.shown([]string{http.MethodGet}, s.serveEvents))
	mux.Handle("/", web.Handler(web.Provider))
	return s.shown([]string{http.MethodGet, http.MethodHead}, func(w http.ResponseWriter, r *http.Request) error {
		if !isLocalName(r.Host) {
			return errHost
		}
		mux.ServeHTTP(w, r)
		return nil
	})
}

func isLocalName(hostport string) bool {
	if host, _, ok := strings.Cut(hostport, ":"); ok && host == "localhost" || hostport == "localhost" {
		return true
	}
	_, err := netip.ParseAddrPort(hostport)
	_, bare := netip.ParseAddr(strings.Trim(hostport, "[]"))
	return err == nil || bare == nil
}

func (s *Seller) serveReport(w http.ResponseWriter, r *http.Request) error {
	report, err := s.Report(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, r, http.StatusOK, report)
	return nil
}

// Server-sent events: the least time between two states, and the longest
// silence.
const (
	eventGap   = 500 * time.Millisecond
	eventPulse = 10 * time.Second
)

// serveEvents sends the report as an event "state": at once, when a sale is
// settled, and every few seconds, since bytes and channels change too.
func (s *Seller) serveEvents(w http.ResponseWriter, r *http.Request) error {
	changed, stop := s.books.watch()
	defer stop()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	pulse := time.NewTicker(eventPulse)
	defer pulse.Stop()
	for {
		if err := s.sendState(w, r); err != nil {
			return nil // the page is gone, or will ask again
		}
		select {
		case <-time.After(eventGap):
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		}
		select {
		case <-changed:
		case <-pulse.C:
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		}
	}
}

func (s *Seller) sendState(w http.ResponseWriter, r *http.Request) error {
	report, err := s.Report(r.Context())
	if err != nil {
		return err
	}
	patience(w, 0)
	if _, err := fmt.Fprintf(w, "event: state\ndata: %s\n\n", mustJSON(report)); err != nil {
		return err
	}
	err = http.NewResponseController(w).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

func mpdPath(name string) string { return "/t/" + url.PathEscape(name) + "/" + title.MPDFile }

package proxy

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// postHeader must come with each request that changes something. A page of
// another origin cannot send it without asking first (CORS preflight), and we
// say no.
const postHeader = "X-Htlcdash"

// guard stands before every handler, because a request here can spend money
// and any page in the same browser can send one. It refuses
//   - a Host that is not ours: a name of a stranger that now points to this
//     machine (DNS rebinding),
//   - a request that a page of another origin caused, unless that origin is
//     allowed to read; an <img> or a link of it counts,
//   - a change from anywhere but our own page,
//   - more requests at once than the limit.
type guard struct {
	hosts   []string // besides loopback
	origins []string
	slots   chan struct{}
	next    http.Handler
}

// inert is the policy for all but the pages, which have one of their own. A title
// is a stranger's: opened as a document, from a link in a letter, nothing of it may
// run, for what runs here can spend money.
const inert = "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", inert)
	// Longer than any player is held. Who sends more than one piece moves it on.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit)) // fails where the connection has none, in tests
	if !g.ours(r.Host) {
		refuse(w, http.StatusMisdirectedRequest, "This host name is not served here. Use http://localhost, or add the name to the proxy's hosts.")
		return
	}
	own, allowed := g.origin(r)
	if !own && !allowed {
		refuse(w, http.StatusForbidden, "A page of another origin may not spend this viewer's money. Add its origin to the proxy's origins to allow it.")
		return
	}
	if allowed {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		h.Set("Timing-Allow-Origin", r.Header.Get("Origin"))
		h.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Accept-Ranges, Retry-After, Server-Timing")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	w.Header().Add("Vary", "Origin")
	switch r.Method {
	case http.MethodOptions:
		g.preflight(w, r)
		return
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if !own || r.Header.Get(postHeader) == "" {
			refuse(w, http.StatusForbidden, "Changes are taken from the viewer's own page only, with the header "+postHeader+".")
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "This method is not known here.")
		return
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
		g.next.ServeHTTP(w, r)
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "Too many requests at once.")
	}
}

// ours reports whether a Host header names this machine by an address that
// only it can have, or by a configured name.
func (g *guard) ours(host string) bool {
	name := hostname(host)
	if ip := net.ParseIP(name); ip != nil && ip.IsLoopback() {
		return true
	}
	return name == "localhost" || slices.Contains(g.hosts, name)
}

func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// origin tells where a request comes from: our own page or no page at all, or
// a page that is allowed to read.
func (g *guard) origin(r *http.Request) (own, allowed bool) {
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		own = err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host == r.Host
		return own, !own && slices.Contains(g.origins, o)
	}
	// Browsers send no Origin with what a page embeds, but they say this
	// (W3C Fetch Metadata). Players outside a browser say nothing.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true, false
	case "":
		return !isBrowser(r) || isPage(r.URL.Path) || fromOwnPage(r), false
	default:
		return false, false
	}
}

// isBrowser reports whether a browser sent r. Old ones, and all of them where
// a name is reached over plain HTTP, say no more than the Referer of where a
// request comes from, and foreign pages can keep that back.
func isBrowser(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Mozilla/") }

// isPage reports whether a path is what people type in, or its scripts: it
// spends nothing and tells nothing.
func isPage(path string) bool { return path == "/" || strings.HasPrefix(path, "/static/") }

func fromOwnPage(r *http.Request) bool {
	u, err := url.Parse(r.Referer())
	return err == nil && u.Host != "" && u.Host == r.Host
}

func (g *guard) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD")
	h.Set("Access-Control-Allow-Headers", "Range, CMCD-Request, CMCD-Object, CMCD-Status, CMCD-Session")
	h.Set("Access-Control-Max-Age", "600")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers in plain words. It never answers 402: stock players drop the
// segment, or die.
func refuse(w http.ResponseWriter, status int, why string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write([]byte(why + "\n")) // the client may be gone
}

package seller

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
)

// Problem types that this face adds to those of HTTP itself, which are
// "about:blank" (RFC 9457). The first ones are those of
// draft-httpauth-payment.
const (
	problemPayment   = "https://paymentauth.org/problems/payment-required"
	problemMalformed = "https://paymentauth.org/problems/malformed-credential"
	problemForged    = "https://paymentauth.org/problems/verification-failed"
	problemStale     = "https://paymentauth.org/problems/payment-expired"
	problemBlank     = "about:blank"
)

// A problem is the body of every error (RFC 9457).
type problem struct {
	Type   string        `json:"type"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail,omitempty"`
	Offer  *mediaOffer   `json:"offer,omitempty"`    // of a 402
	Owed   *errOwed      `json:"carriage,omitempty"` // of a 402 for sealed bytes
	wait   time.Duration // Retry-After; 0: none
}

// An errLimited means that a client asks more often than it may.
type errLimited struct{ wait time.Duration }

func (e errLimited) Error() string { return "too many requests from this address" }

// Errors of this face only.
var (
	errScheme = errors.New("scheme is not offered here")
	errMethod = errors.New("method is not allowed here")
	errRange  = errors.New("range is outside of the file")
	errHost   = errors.New("this page is for the operator's own machine")
)

// maxOverload is the longest that anybody is asked to stay away because there is too
// much work: by then it is another picture.
const maxOverload = 10 * time.Second

// status says how an error looks from outside. What it does not know is ours,
// and its text stays in the log.
func status(err error) problem {
	var limited errLimited
	var overload errOverload
	var tooLarge *http.MaxBytesError
	if owed, ok := errors.AsType[errOwed](err); ok {
		return problem{
			Type: problemPayment, Title: http.StatusText(http.StatusPaymentRequired), Status: http.StatusPaymentRequired,
			Detail: owed.Error(), Owed: &owed,
		}
	}
	code, detail := http.StatusInternalServerError, "see the provider's log"
	var wait time.Duration
	switch {
	case errors.As(err, &limited):
		code, detail, wait = http.StatusTooManyRequests, err.Error(), limited.wait
	case errors.As(err, &tooLarge):
		code, detail = http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, htlcdash.ErrNotFound):
		code, detail = http.StatusNotFound, err.Error()
	case isCredentialError(err):
		code, detail = http.StatusUnauthorized, err.Error()
	case errors.Is(err, errRation):
		code, detail, wait = http.StatusTooManyRequests, err.Error(), time.Minute
	case errors.Is(err, htlcdash.ErrFormat), errors.Is(err, errScheme), errors.Is(err, errSystem):
		code, detail = http.StatusBadRequest, err.Error()
	case errors.Is(err, errMethod):
		code, detail = http.StatusMethodNotAllowed, err.Error()
	case errors.Is(err, errRange):
		code, detail = http.StatusRequestedRangeNotSatisfiable, err.Error()
	case errors.Is(err, errHost):
		code, detail = http.StatusForbidden, err.Error()
	case errors.As(err, &overload):
		code, detail, wait = http.StatusServiceUnavailable, err.Error(), min(overload.wait, maxOverload)
	case errors.Is(err, errBusy):
		code, detail, wait = http.StatusServiceUnavailable, err.Error(), 5*time.Second
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code, detail = http.StatusServiceUnavailable, "not in time"
	}
	return problem{Type: problemBlank, Title: http.StatusText(code), Status: code, Detail: detail, wait: wait}
}

// isCredentialError reports whether a client should show another credential.
func isCredentialError(err error) bool {
	for _, e := range []error{errStranger, errMalformed, errSpent, credential.ErrKey, credential.ErrForged, credential.ErrStale, exchange.ErrForged, exchange.ErrMalformed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// challengeLine is the WWW-Authenticate of a 401: where to begin.
func (s *Seller) challengeLine() string {
	key, err := s.issuer.keys.Current(time.Now())
	if err != nil {
		return credential.Scheme
	}
	return key.Public().Challenge()
}

// paymentProblem says what is wrong with a request for media that nobody paid.
// L402 wants 401 for a credential that is no good; Payment wants 402 always.
func paymentProblem(err error) problem {
	p := problem{
		Type: problemPayment, Title: http.StatusText(http.StatusPaymentRequired), Status: http.StatusPaymentRequired,
		Detail: "this segment is for sale",
	}
	var credential *exchange.CredentialError
	if !errors.As(err, &credential) {
		return p
	}
	p.Detail = credential.Error()
	switch {
	case errors.Is(err, exchange.ErrMalformed):
		p.Type = problemMalformed
	case errors.Is(err, exchange.ErrForged):
		p.Type = problemForged
	default:
		p.Type = problemStale
	}
	if credential.Scheme == "L402" && p.Type != problemStale {
		p.Status, p.Title = http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized)
	}
	return p
}

func (p problem) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Del("ETag")
	if p.wait > 0 {
		h.Set("Retry-After", retryAfter(p.wait))
	}
	writeJSON(w, r, p.Status, p)
}

func retryAfter(d time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(d.Seconds()))))
}

// writeJSON sends v; Content-Type and the like are set by the caller.
func writeJSON(w http.ResponseWriter, r *http.Request, code int, v any) {
	b := append(mustJSON(v), '\n')
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		w.Write(b) // the client may be gone; nothing else to do
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("seller: " + err.Error()) // our own types only
	}
	return b
}

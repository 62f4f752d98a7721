package buyer

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// maxJSON bounds the descriptions that a provider gives, in bytes.
const maxJSON = 4 << 20

// A Provider is the HTTP face of one provider (spec/04-provider.md). It keeps
// no state; all methods may be called at once. Their errors name the provider.
type Provider struct {
	base   *url.URL
	client *http.Client
	slow   *http.Client // the same, for what may take as long as it flows
}

// NewProvider returns the provider at address, an http or https URL. A nil
// client means one with deadlines of its own.
func NewProvider(address string, client *http.Client) (*Provider, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("provider %q: want a URL such as https://provider.example", address)
	}
	if client == nil {
		client = newClient()
	}
	// A redirect would move the till: only the same place may answer.
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	slow := own
	slow.Timeout = 0
	return &Provider{u, &own, &slow}, nil
}

func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 8
	t.ResponseHeaderTimeout = 10 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	t.DisableCompression = true // a few bytes must not become many
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// URL is the address, without a password or a trailing slash.
func (p *Provider) URL() string { return strings.TrimSuffix(p.base.Redacted(), "/") }

func (p *Provider) String() string { return p.URL() }

// ProviderInfo is what a provider says of itself. All of it is a claim.
type ProviderInfo struct {
	Version  int              `json:"version"`
	Node     lightning.NodeID `json:"node"`
	Alias    string           `json:"alias"`
	Schemes  []string         `json:"schemes"`
	MaxBatch int              `json:"max_batch"`

	Key         htlcdash.ProviderID `json:"key"`    // signs its offers
	Proofs      []string            `json:"proofs"` // in which it proves them
	Credentials CredentialInfo      `json:"credentials"`
	Carriage    CarriageInfo        `json:"carriage"` // zero: sealed bytes are free
}

// sells reports whether there are keys to buy by offers.
func (info ProviderInfo) sells() bool { return slices.Contains(info.Schemes, exchange.SchemeSalted) }

// CredentialInfo is what a provider says of its anonymous credentials.
type CredentialInfo struct {
	Issue    string         `json:"issue"` // "free", "limited" or "sold"
	Price    lightning.Msat `json:"price_msat"`
	MaxBatch int            `json:"max_batch"`
	Life     int64          `json:"life_s"` // of one in use, in seconds
	Keys     []IssuerKey    `json:"keys"`   // the first one issues
}

// An IssuerKey is a public key for credentials (spec/08-credential.md).
type IssuerKey struct {
	Key     PublicKey `json:"key"`
	Expires int64     `json:"expires"` // Unix seconds
}

// A PublicKey is 32 bytes, an element of ristretto255, if its provider is
// honest. It is hexadecimal in JSON.
type PublicKey [32]byte

// UnmarshalText reads 64 hexadecimal digits.
func (k *PublicKey) UnmarshalText(b []byte) error { return (*htlcdash.Root)(k).UnmarshalText(b) }

// MarshalText gives 64 hexadecimal digits.
func (k PublicKey) MarshalText() ([]byte, error) { return htlcdash.Root(k).MarshalText() }

// maxKeys bounds the keys and systems that a provider may name.
const maxKeys = 16

// Info asks the provider who it is.
func (p *Provider) Info(ctx context.Context) (info ProviderInfo, err error) {
	if err := p.getJSON(ctx, "v1/provider", &info); err != nil {
		return ProviderInfo{}, err
	}
	if len(info.Credentials.Keys) > maxKeys || len(info.Proofs) > maxKeys {
		return ProviderInfo{}, fmt.Errorf("%s: more than %d keys or proofs: %w", p, maxKeys, htlcdash.ErrFormat)
	}
	return info, nil
}

// TitleInfo is what a provider says of a title that it sells. All of it is a
// claim, until the title's signature is verified.
type TitleInfo struct {
	ID              htlcdash.TitleID     `json:"id"`
	Name            string               `json:"name"`
	Title           string               `json:"title"` // for people; may be empty
	Publisher       htlcdash.PublisherID `json:"publisher"`
	MPD             string               `json:"mpd"` // path at the provider
	DurationMS      int64                `json:"duration_ms"`
	Representations int                  `json:"representations"`
	Min             lightning.Msat       `json:"min_msat"` // the whole title on its cheapest rung
	Max             lightning.Msat       `json:"max_msat"` // and on its dearest
	// Asks is what the keys of the same cost at this provider; nil: it does not say, and
	// may ask up to Min and Max.
	Asks *PriceRange `json:"asks,omitempty"`
	// BytesOnly says that the provider carries the title's sealed bytes, and sells no
	// keys of it.
	BytesOnly bool  `json:"bytes_only,omitempty"`
	MinBytes  int64 `json:"min_bytes"` // sealed, on the cheapest rung; 0: it does not say
	MaxBytes  int64 `json:"max_bytes"` // and on the dearest
}

// A PriceRange is from what the cheapest rungs of a title cost to what the dearest do.
type PriceRange struct {
	Min lightning.Msat `json:"min_msat"`
	Max lightning.Msat `json:"max_msat"`
}

// Bounds on what a provider may claim to sell.
const (
	maxTitles = 4096
	maxName   = 255 // bytes
)

// titleList is bounded while it is read: an entry takes a few bytes on the wire
// and many here.
type titleList []TitleInfo

func (l *titleList) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("no list of titles")
	}
	for d.More() {
		var info TitleInfo
		if err := d.Decode(&info); err != nil {
			return err
		}
		if len(*l) == maxTitles {
			return fmt.Errorf("more than %d titles", maxTitles)
		}
		if n := info.Name; n == "" || len(n) > maxName || strings.Contains(n, "/") || n == "." || n == ".." {
			return fmt.Errorf("title %s has no name that could stand in a path", info.ID)
		}
		*l = append(*l, info)
	}
	return nil
}

// Titles asks what the provider sells: at most 4096 titles.
func (p *Provider) Titles(ctx context.Context) ([]TitleInfo, error) {
	var list struct {
		Titles titleList `json:"titles"`
	}
	err := p.getJSON(ctx, "v1/titles", &list)
	return list.Titles, err
}

// Fetch returns a reader of the free files of the title with a name: MPD,
// signature, init segments, seal lists. It reads limit bytes from offset on, or
// fewer where the file ends before. Its errors match htlcdash.ErrNotFound where
// there is no such file.
func (p *Provider) Fetch(name string) func(ctx context.Context, file string, offset, limit int64) ([]byte, error) {
	return func(ctx context.Context, file string, offset, limit int64) ([]byte, error) {
		if limit <= 0 || offset < 0 || path.Clean("/"+file) != "/"+file {
			return nil, fmt.Errorf("%s: %q from %d: %w", p, file, offset, htlcdash.ErrFormat)
		}
		escaped := (&url.URL{Path: "t/" + name + "/" + file}).EscapedPath()
		r, err := p.request(ctx, http.MethodGet, escaped, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+limit-1))
		resp, err := p.do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return p.slice(resp, offset, limit)
	}
}

// slice reads the asked range from an answer that may be the whole file.
func (p *Provider) slice(resp *http.Response, offset, limit int64) ([]byte, error) {
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return nil, nil // beyond the end: no bytes
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			return nil, fmt.Errorf("%s: another range than asked for: %w", p, htlcdash.ErrFormat)
		}
	default:
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil && err != io.EOF {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return b, nil
}

// errPass means that a provider does not take a credential, or no more.
var errPass = fmt.Errorf("%w: it wants another credential", exchange.ErrRefused)

// offers asks for offers. The answer is checked in form, not in its terms.
func (p *Provider) offers(ctx context.Context, c credential.Credential, req exchange.OfferRequest) ([]exchange.Offer, error) {
	b, err := p.post(ctx, c, "v1/offers", req, exchange.MaxResponseBytes)
	if err != nil {
		return nil, err
	}
	resp, err := exchange.ParseOfferResponse(b, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return resp.Offers, nil
}

// proof asks for one proof. It is not verified.
func (p *Provider) proof(ctx context.Context, c credential.Credential, req exchange.ProofRequest) ([]byte, error) {
	b, err := p.post(ctx, c, "v1/proofs", req, exchange.MaxProofBytes+4)
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(b)
	pf, err := exchange.ReadProof(r)
	if err == nil && r.Len() > 0 {
		err = htlcdash.ErrFormat
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return pf, nil
}

// recall asks for the preimage of a sale that a credential may have made. It is
// zero if the provider does not know of a payment.
func (p *Provider) recall(ctx context.Context, c credential.Credential, req exchange.KeyRequest) (lightning.Preimage, error) {
	b, err := p.post(ctx, c, "v1/keys", req, exchange.MaxRequestBytes)
	if err != nil {
		return lightning.Preimage{}, err
	}
	found, err := exchange.ParseKeyResponse(b, req)
	if err != nil {
		return lightning.Preimage{}, fmt.Errorf("%s: %w", p, err)
	}
	return found[0], nil
}

// carriage asks for a bill for sealed bytes, or shows that it was paid.
func (p *Provider) carriage(ctx context.Context, c credential.Credential, req exchange.CarriageRequest) ([]byte, error) {
	return p.post(ctx, c, "v1/carriage", req, exchange.MaxCarriageBytes)
}

// sealed asks for n bytes of a blob, from an offset. They are not checked.
func (p *Provider) sealed(ctx context.Context, c credential.Credential, b htlcdash.Blob, from, n int64) (io.ReadCloser, error) {
	file := htlcdash.SealedPath(b.Root)
	r, err := p.request(ctx, http.MethodGet, file, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("Authorization", c.Authorization(http.MethodGet, "/"+file, nil, time.Now()))
	want := http.StatusOK
	if n < b.Length {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+n-1))
		want = http.StatusPartialContent
	}
	resp, err := p.slow.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %w", p, unwrapURL(err))
	}
	err = refusal(resp)
	if err == nil && (resp.StatusCode != want || resp.ContentLength != n ||
		want == http.StatusPartialContent && !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from))) {
		err = fmt.Errorf("%d bytes, by %q, are not those that were asked for: %w", resp.ContentLength, resp.Status, htlcdash.ErrCorrupt)
	}
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s: %w", p, r.URL.Path, err)
	}
	return resp.Body, nil
}

// tokens asks for anonymous tokens, with the preimage of the payment where they
// were paid for. If the provider wants money first, it returns its offer.
func (p *Provider) tokens(ctx context.Context, request []byte, paid lightning.Preimage) (response, offer []byte, err error) {
	r, err := p.request(ctx, http.MethodPost, "v1/credentials", bytes.NewReader(request))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", credential.RequestType)
	if !paid.IsZero() {
		b := paid.Reveal()
		r.Header.Set("Authorization", exchange.SchemePreimage+" "+hex.EncodeToString(b[:]))
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%s does not answer: %w", p, unwrapURL(err))
	}
	defer resp.Body.Close()
	wanted := resp.StatusCode == http.StatusPaymentRequired && paid.IsZero()
	if !wanted {
		if err := refusal(resp); err != nil {
			return nil, nil, fmt.Errorf("%s: %s: %w", p, r.URL.Path, err)
		}
	}
	const limit = max(credential.MaxResponseBytes, exchange.MaxRequestBytes)
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p, err)
	}
	if wanted {
		return nil, b, nil
	}
	return b, nil, nil
}

// post sends a message as JSON for the holder of a credential.
func (p *Provider) post(ctx context.Context, c credential.Credential, file string, message any, limit int64) ([]byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	r, err := p.request(ctx, http.MethodPost, file, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", c.Authorization(http.MethodPost, "/"+file, body, time.Now()))
	return p.read(r, limit)
}

func (p *Provider) getJSON(ctx context.Context, file string, v any) error {
	r, err := p.request(ctx, http.MethodGet, file, nil)
	if err != nil {
		return err
	}
	b, err := p.read(r, maxJSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: /%s: %w: %w", p, file, err, htlcdash.ErrFormat)
	}
	return nil
}

func (p *Provider) request(ctx context.Context, method, file string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.base.JoinPath(file).String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return r, nil
}

// read returns a body of at most limit bytes.
func (p *Provider) read(r *http.Request, limit int64) ([]byte, error) {
	resp, err := p.do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: answer above %d bytes: %w", p, limit, htlcdash.ErrFormat)
	}
	return b, nil
}

// do sends r and turns a refusal into an error that says what to do.
func (p *Provider) do(r *http.Request) (*http.Response, error) {
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %w", p, unwrapURL(err))
	}
	if err := refusal(resp); err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s: %w", p, r.URL.Path, err)
	}
	return resp, nil
}

// unwrapURL drops the address, which the caller says shorter.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// An errLater is a provider's request to ask again later. It matches
// exchange.ErrRefused.
type errLater struct{ wait time.Duration }

// maxLater bounds, in seconds, what a provider may ask for.
const maxLater = 60

func (e *errLater) Error() string { return fmt.Sprintf("too many requests: wait %v", e.wait) }

func (e *errLater) Unwrap() error { return exchange.ErrRefused }

func refusal(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent, code == http.StatusRequestedRangeNotSatisfiable:
		return nil
	case code == http.StatusPaymentRequired:
		return errOwing
	case code == http.StatusUnauthorized:
		return errPass
	case code == http.StatusNotFound, code == http.StatusGone:
		return htlcdash.ErrNotFound
	case code == http.StatusTooManyRequests:
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || seconds < 0 {
			seconds = 1
		}
		return &errLater{time.Duration(min(seconds, maxLater)) * time.Second}
	case code >= 300 && code < 400:
		return fmt.Errorf("%w: moved to another address: configure that one if you trust it", exchange.ErrRefused)
	}
	return fmt.Errorf("%w: answered %q", exchange.ErrRefused, resp.Status)
}

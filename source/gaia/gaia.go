// Package gaia is a source and a store at a Gaia hub, the storage of Stacks
// (once Blockstack): each key has a bucket, called by the key's Bitcoin address,
// to which it alone can write and which all can read.
//
//	GET  HUB/hub_info                        what the hub wants signed, and where to read
//	POST HUB/store/ADDRESS/PATH              one file, with a token signed by the key (v1)
//	GET  READ_URL_PREFIX + ADDRESS/PATH      the whole file; ranges are ignored
//
// The token is a JWT with ES256K, which is ECDSA over secp256k1. Whoever sees
// one can write to the bucket for an hour, so a hub is named by https unless it
// is on this machine.
//
// A bucket that only is to be read needs nothing of this: its read address is
// that of any web store (package web).
package gaia

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcutil/base58"
	//lint:ignore SA1019 a Bitcoin address is made of this hash and no other
	"golang.org/x/crypto/ripemd160"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/web"
)

const (
	maxInfo   = 64 << 10 // bytes of an answer to hub_info
	maxAnswer = 4 << 10  // bytes that are read of other answers
	tokenLife = time.Hour
)

// A Key writes to the bucket of its address. It never prints.
type Key struct{ k *btcec.PrivateKey }

// NewKey makes a key of 32 secret bytes.
func NewKey(b [32]byte) (Key, error) {
	var s btcec.ModNScalar
	if overflow := s.SetBytes(&b); overflow != 0 || s.IsZero() {
		return Key{}, fmt.Errorf("gaia key is not below the order of secp256k1: %w", htlcdash.ErrFormat)
	}
	k, _ := btcec.PrivKeyFromBytes(b[:])
	return Key{k}, nil
}

func (Key) String() string { return "gaia key" }

// GoString is String.
func (Key) GoString() string { return "gaia key" }

// Address is what the key's bucket is called.
func (k Key) Address() string { return AddressOf(k.k.PubKey().SerializeCompressed()) }

// AddressOf is the Bitcoin address (P2PKH, mainnet) of a public key in its
// compressed form.
func AddressOf(public []byte) string {
	sum := sha256.Sum256(public)
	h := ripemd160.New()
	h.Write(sum[:])
	return base58.CheckEncode(h.Sum(nil), 0)
}

// IsAddress reports whether s can be the name of a bucket.
func IsAddress(s string) bool {
	if len(s) > 64 {
		return false
	}
	hash, _, err := base58.CheckDecode(s)
	return err == nil && len(hash) == ripemd160.Size
}

// A Place is what lies below a path in one bucket. It implements source.Source
// and source.Prober and, if it has the key, source.Store.
type Place struct {
	hub     *url.URL
	address string
	prefix  string
	key     Key // may be none
	client  *http.Client

	mu     sync.Mutex
	info   *info // nil: the hub was not asked yet
	reader *web.Web
	token  string
	made   time.Time // when token was
}

// New returns the place to read below prefix in the bucket called address, at
// the hub with that URL. It asks nobody yet.
func New(hub, address, prefix string) (*Place, error) {
	u, err := url.Parse(hub)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("gaia: want the URL of a hub, such as https://hub.example") // what was given may hold a password
	}
	if !IsAddress(address) {
		return nil, fmt.Errorf("gaia: %.64q is no address: %w", address, htlcdash.ErrFormat)
	}
	prefix = strings.Trim(path.Clean("/"+prefix), "/")
	return &Place{hub: u, address: address, prefix: prefix, client: &http.Client{
		Transport: web.NewTransport(),
		// A token is for this hub and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// NewWriter is New for the bucket of key, which can be written to.
func NewWriter(hub, prefix string, key Key) (*Place, error) {
	p, err := New(hub, key.Address(), prefix)
	if err != nil {
		return nil, err
	}
	if p.hub.Scheme == "http" && !local(p.hub.Hostname()) {
		return nil, errors.New("gaia: a hub elsewhere is written to by https only, since who sees the token can write, too")
	}
	p.key = key
	return p, nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (p *Place) String() string { return p.hub.JoinPath(p.address, p.prefix).String() }

// info is what a hub says of itself.
type info struct {
	Challenge  string
	Read       *url.URL // prefix
	MaxFileMiB float64  // 0: not said
}

// parseInfo reads an answer to hub_info.
func parseInfo(b []byte) (*info, error) {
	var raw struct {
		Challenge string  `json:"challenge_text"`
		Version   string  `json:"latest_auth_version"`
		Read      string  `json:"read_url_prefix"`
		Max       float64 `json:"max_file_upload_size_megabytes"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("hub_info: %w", htlcdash.ErrFormat)
	}
	u, err := url.Parse(raw.Read)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("hub_info: read_url_prefix %.100q: %w", raw.Read, htlcdash.ErrFormat)
	}
	if v, err := strconv.Atoi(strings.TrimPrefix(raw.Version, "v")); err != nil || v < 1 {
		return nil, fmt.Errorf("hub_info: the hub knows no tokens of version 1 (%.20q): it is too old", raw.Version)
	}
	return &info{raw.Challenge, u, max(raw.Max, 0)}, nil
}

// ask asks the hub about itself, once unless anew is set.
func (p *Place) ask(ctx context.Context, anew bool) (*info, error) {
	p.mu.Lock()
	known := p.info
	p.mu.Unlock()
	if known != nil && !anew {
		return known, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.hub.JoinPath("hub_info").String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%v answers %q to hub_info: is it the address of a Gaia hub?", p.hub, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxInfo))
	if err != nil {
		return nil, err
	}
	found, err := parseInfo(b)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p.hub, err)
	}
	reader, err := p.open(found.Read)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info, p.reader, p.token = found, reader, ""
	return found, nil
}

// open returns the read side of the place. A hub may have it in its own house,
// or in public, but must not send us into somebody's private network.
func (p *Place) open(prefix *url.URL) (*web.Web, error) {
	base := prefix.JoinPath(p.address, p.prefix).String()
	if a, b := prefix.Hostname(), p.hub.Hostname(); a == b || local(a) && local(b) {
		return web.New(base, nil)
	}
	return web.NewPublic(base)
}

func (p *Place) read(ctx context.Context) (*web.Web, error) {
	if _, err := p.ask(ctx, false); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reader, nil
}

// ReadURL is where anybody can read the place, without knowing of Gaia. It asks
// the hub.
func (p *Place) ReadURL(ctx context.Context) (string, error) {
	w, err := p.read(ctx)
	if err != nil {
		return "", err
	}
	return w.String(), nil
}

// Open implements source.Source.
func (p *Place) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	w, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	return w.Open(ctx, b)
}

// Has implements source.Prober.
func (p *Place) Has(ctx context.Context, b htlcdash.Blob) error {
	w, err := p.read(ctx)
	if err != nil {
		return err
	}
	return w.Has(ctx, b)
}

// Stat implements source.Store.
func (p *Place) Stat(ctx context.Context, file string) (source.Info, error) {
	w, err := p.read(ctx)
	if err != nil {
		return source.Info{}, err
	}
	length, err := w.Length(ctx, file)
	return source.Info{Length: length}, err
}

// Get implements source.Store.
func (p *Place) Get(ctx context.Context, file string, limit int64) ([]byte, error) {
	w, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	return w.Get(ctx, file, limit)
}

// Put implements source.Store.
func (p *Place) Put(ctx context.Context, file string, data []byte, replace bool) error {
	if p.key.k == nil {
		return errors.New("gaia: this place can only be read: it needs the key of its address")
	}
	i, err := p.ask(ctx, false)
	if err != nil {
		return err
	}
	if i.MaxFileMiB > 0 && float64(len(data)) > i.MaxFileMiB*(1<<20) {
		return fmt.Errorf("%s has %d bytes, and %v takes files of %g MiB at most: publish with shorter segments or lower rungs: %w", file, len(data), p.hub, i.MaxFileMiB, source.ErrRefused)
	}
	err = p.post(ctx, file, data, replace)
	if errors.Is(err, errToken) { // the challenge may have changed
		if _, err := p.ask(ctx, true); err != nil {
			return err
		}
		err = p.post(ctx, file, data, replace)
	}
	return err
}

var errToken = fmt.Errorf("it refuses our token: %w", source.ErrRefused)

func (p *Place) post(ctx context.Context, file string, data []byte, replace bool) error {
	token, err := p.authorize(ctx)
	if err != nil {
		return err
	}
	to := p.hub.JoinPath("store", p.address, p.prefix, file)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "bearer "+token)
	r.Header.Set("Content-Type", source.ContentType(file))
	if !replace {
		r.Header.Set("If-None-Match", "*")
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		return nil
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", file, source.ErrExists)
	case http.StatusUnauthorized:
		return fmt.Errorf("%v: %w", p.hub, errToken)
	case http.StatusPaymentRequired, http.StatusForbidden:
		return fmt.Errorf("%v does not let %s write: ask its operator (%s): %w", p.hub, p.address, resp.Status, source.ErrRefused)
	case http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%v: %s of %d bytes is too large for it: publish with shorter segments or lower rungs: %w", p.hub, file, len(data), source.ErrRefused)
	}
	return fmt.Errorf("%v answers %q to %s: %.200q", p.hub, resp.Status, file, said)
}

// authorize returns a token that is good for a while.
func (p *Place) authorize(ctx context.Context) (string, error) {
	i, err := p.ask(ctx, false)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.token == "" || now.Sub(p.made) > tokenLife/2 {
		if p.token, err = makeToken(p.key, i.Challenge, p.hub.String(), now); err != nil {
			return "", err
		}
		p.made = now
	}
	return p.token, nil
}

// makeToken signs what a hub wants to see, as version 1 of its tokens.
func makeToken(key Key, challenge, hub string, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"gaiaChallenge": challenge,
		"hubUrl":        hub,
		"iss":           hex.EncodeToString(key.k.PubKey().SerializeCompressed()),
		"iat":           now.Unix(),
		"exp":           now.Add(tokenLife).Unix(),
		"salt":          rand.Text(),
	})
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256K"}`)) + "." + b64.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	signature := ecdsa.SignCompact(key.k, digest[:], true)[1:] // r and s, without what recovers the key
	return "v1:" + text + "." + b64.EncodeToString(signature), nil
}

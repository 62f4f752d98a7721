// Package gaiatest is a Gaia hub in memory, for tests and measurements: it holds
// writers to what the real one (2.8.1) does, as its clients need it.
package gaiatest

import (
	"crypto/md5" // what the hub's ETag is made of, not for security
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"htlcdash/source/gaia"
)

// A Hub keeps files in memory. Its handlers may be called at once.
type Hub struct {
	Challenge string // what tokens must quote; empty: they need none
	ReadURL   string // where Reader is served, with a slash at the end; required
	MaxMiB    int    // of a file; 0: 20

	mu    sync.Mutex
	files map[string]file // by ADDRESS/PATH
	puts  int
}

type file struct {
	data []byte
	mime string
	etag string
}

// Puts is how many files were written, replaced ones included.
func (h *Hub) Puts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.puts
}

// Files lists what is there, by ADDRESS/PATH.
func (h *Hub) Files() map[string][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string][]byte{}
	for name, f := range h.files {
		out[name] = f.data
	}
	return out
}

// Writer is the hub itself: hub_info and store.
func (h *Hub) Writer() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hub_info", h.info)
	mux.HandleFunc("POST /store/{address}/{path...}", h.store)
	return mux
}

// Reader is where all can read. It gives whole files, whatever range is asked
// for, as the real one does.
func (h *Hub) Reader() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		f, ok := h.files[strings.TrimPrefix(r.URL.Path, "/")]
		h.mu.Unlock()
		if !ok {
			http.Error(w, "File not found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", f.mime)
		w.Header().Set("ETag", f.etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(f.data)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(f.data)
		}
	})
}

func (h *Hub) maxMiB() int {
	if h.MaxMiB == 0 {
		return 20
	}
	return h.MaxMiB
}

func (h *Hub) info(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"challenge_text":                 h.Challenge,
		"latest_auth_version":            "v1",
		"max_file_upload_size_megabytes": h.maxMiB(),
		"read_url_prefix":                h.ReadURL,
	})
}

func (h *Hub) store(w http.ResponseWriter, r *http.Request) {
	address, path := r.PathValue("address"), r.PathValue("path")
	if err := h.admit(r, address); err != nil {
		answer(w, http.StatusUnauthorized, map[string]string{"message": err.Error(), "error": "ValidationError"})
		return
	}
	if path == "" || strings.Contains(path, "..") {
		answer(w, http.StatusForbidden, map[string]string{"message": "Invalid path", "error": "BadPathError"})
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(h.maxMiB())<<20))
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, map[string]string{"error": "PayloadTooLargeError"})
		return
	}
	sum := md5.Sum(data)
	f := file{data, r.Header.Get("Content-Type"), `"` + hex.EncodeToString(sum[:]) + `"`}
	name := address + "/" + path
	if !h.keep(name, f, r.Header) {
		answer(w, http.StatusPreconditionFailed, map[string]string{"error": "PreconditionFailedError"})
		return
	}
	answer(w, http.StatusAccepted, map[string]string{"publicURL": h.ReadURL + name, "etag": f.etag})
}

// keep writes unless the request's conditions forbid it.
func (h *Hub) keep(name string, f file, conditions http.Header) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, there := h.files[name]
	if conditions.Get("If-None-Match") == "*" && there {
		return false
	}
	if m := conditions.Get("If-Match"); m != "" && m != "*" && m != old.etag {
		return false
	}
	if h.files == nil {
		h.files = map[string]file{}
	}
	h.files[name] = f
	h.puts++
	return true
}

// admit checks that the token of r is signed by the key of the address.
func (h *Hub) admit(r *http.Request, address string) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token, v1 := strings.CutPrefix(token, "v1:")
	if !strings.EqualFold(scheme, "bearer") || !v1 {
		return errors.New("no token of version 1")
	}
	text, signature, ok := cutLast(token, ".")
	head, claims, ok2 := strings.Cut(text, ".")
	if !ok || !ok2 {
		return errors.New("malformed token")
	}
	var kind struct{ Typ, Alg string }
	var c struct {
		Challenge string `json:"gaiaChallenge"`
		Iss       string `json:"iss"`
		Exp       *int64 `json:"exp"`
		HubURL    string `json:"hubUrl"`
		Salt      string `json:"salt"`
	}
	if err := errors.Join(decode(head, &kind), decode(claims, &c)); err != nil {
		return err
	}
	public, err := hex.DecodeString(c.Iss)
	if err != nil {
		return err
	}
	switch {
	case kind.Typ != "JWT" || kind.Alg != "ES256K":
		return fmt.Errorf("token of kind %+v", kind)
	case c.Challenge != h.Challenge:
		return errors.New("wrong challenge")
	case c.HubURL == "" || c.Salt == "":
		return errors.New("no hubUrl or salt")
	case c.Exp != nil && time.Now().Unix() > *c.Exp:
		return errors.New("expired")
	case gaia.AddressOf(public) != address:
		return errors.New("the token's key has another address")
	}
	return verify(public, text, signature)
}

func verify(public []byte, text, signature string) error {
	key, err := btcec.ParsePubKey(public)
	if err != nil {
		return err
	}
	b, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(b) != 64 {
		return errors.New("signature is not of 64 bytes")
	}
	var r, s btcec.ModNScalar
	if r.SetByteSlice(b[:32]) || s.SetByteSlice(b[32:]) {
		return errors.New("signature out of range")
	}
	digest := sha256.Sum256([]byte(text))
	if !ecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return errors.New("signature is not of the token's key")
	}
	return nil
}

func decode(s string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

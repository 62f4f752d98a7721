package lnd_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"gopkg.in/macaroon.v2"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// fake is an lnd that a test tells what to answer: for the faults that a real
// one cannot be made to show.
type fake struct {
	mux      *http.ServeMux
	server   *httptest.Server
	dials    atomic.Int32 // connections ever
	cert     string
	macaroon string
	secret   string // the macaroon in hexadecimal
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{mux: http.NewServeMux()}
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Grpc-Metadata-macaroon") != f.secret {
			fault(w, http.StatusInternalServerError, 2, "verification failed: signature mismatch after caveat verification")
			return
		}
		f.mux.ServeHTTP(w, r)
	}))
	f.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.dials.Add(1)
		}
	}
	f.server.StartTLS()
	t.Cleanup(f.server.Close)

	dir := t.TempDir()
	f.cert, f.macaroon = filepath.Join(dir, "tls.cert"), filepath.Join(dir, "some.macaroon")
	m, err := macaroon.New([]byte("root key of a test"), []byte("an id"), "lnd", macaroon.LatestVersion)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	f.secret = hex.EncodeToString(raw)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	for file, b := range map[string][]byte{f.cert: certificate, f.macaroon: raw} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fake) node(t *testing.T, change ...func(*lnd.Config)) *lnd.Node {
	t.Helper()
	c := lnd.Config{Addr: f.server.URL, TLSCertFile: f.cert, MacaroonFile: f.macaroon}
	for _, ch := range change {
		ch(&c)
	}
	n, err := lnd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func (f *fake) on(pattern string, h http.HandlerFunc) { f.mux.HandleFunc(pattern, h) }

// fault answers as lnd does with an error.
func fault(w http.ResponseWriter, status, code int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "details": []any{}})
}

// line sends one message of a stream.
func line(w http.ResponseWriter, result any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"result": result})
	_ = http.NewResponseController(w).Flush()
}

// sale is an invoice and what opens it.
type sale struct {
	lightning.Invoice
	preimage lightning.Preimage
}

func newSale(t testing.TB, amount lightning.Msat) sale {
	t.Helper()
	key, _ := btcec.PrivKeyFromBytes([]byte("a key for tests, worth nothing.."))
	p := lightning.RandomPreimage()
	inv, err := lightning.EncodeInvoice(lightning.Invoice{
		Network: lightning.Simnet, Hash: p.Hash(), Amount: amount, Created: time.Now(),
	}, [32]byte{1}, key)
	if err != nil {
		t.Fatal(err)
	}
	return sale{inv, p}
}

func (s sale) hex() string {
	b := s.preimage.Reveal()
	return hex.EncodeToString(b[:])
}

func (s sale) trackPath() string {
	return "GET /v2/router/track/" + base64.URLEncoding.EncodeToString(s.Hash[:])
}

// payment is a message about s.
func (s sale) payment(status string) map[string]any {
	m := map[string]any{
		"status": status, "value_msat": fmt.Sprint(int64(s.Amount)), "fee_msat": "7",
		"payment_preimage": "0000000000000000000000000000000000000000000000000000000000000000", "failure_reason": "FAILURE_REASON_NONE",
	}
	if status == "SUCCEEDED" {
		m["payment_preimage"] = s.hex()
	}
	return m
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

package seller_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"htlcdash"
	"htlcdash/internal/seller"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// busyNode counts what strangers make the node do.
type busyNode struct {
	lightning.Payee
	calls atomic.Int64
}

func (n *busyNode) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	n.calls.Add(1)
	return n.Payee.Invoice(ctx, p, t)
}

// One address gets no more out of the node by naming others: only a trusted
// proxy may say who asks.
func TestForgedAddressesCostNoInvoices(t *testing.T) {
	var node *busyNode
	s := open(t, func(c *seller.Config) {
		node = &busyNode{Payee: c.Payee}
		c.Payee, c.InvoiceBurst, c.InvoiceRate = node, 2, 0.001
	})
	for i := range 50 {
		path := "/t/title/v0/" + string(rune('1'+i%5)) + ".m4s"
		for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"} {
			if a := s.get(t, path, header, "192.0.2."+string(rune('1'+i%9))); a.StatusCode != http.StatusPaymentRequired {
				t.Fatalf("%s", a.Status)
			}
		}
	}
	if n := node.calls.Load(); n != 2 {
		t.Errorf("the node made %d invoices, want 2", n)
	}
}

// Offers beyond the ration of an address never reach the node.
func TestOffersAreRationed(t *testing.T) {
	var node *busyNode
	s := open(t, func(c *seller.Config) {
		node = &busyNode{Payee: c.Payee}
		c.Payee, c.OfferBurst, c.OfferRate = node, 7, 0.001
	})
	segs := s.title.Segments(t, "v0")[:5]
	codes := map[int]int{}
	for range 10 {
		a := s.post(t, s.guest(t), "/v1/offers", s.request(segs...), "X-Forwarded-For", "192.0.2.1")
		if codes[a.StatusCode]++; a.StatusCode == http.StatusTooManyRequests && a.Header.Get("Retry-After") == "" {
			t.Error("not told when to come back")
		}
	}
	if node.calls.Load() != 5 || codes[200] != 1 || codes[429] != 9 {
		t.Errorf("the node made %d invoices, want 5; answers %v", node.calls.Load(), codes)
	}
}

// No path leads to a title's keys, to what lies outside of its folder, or to
// a message that says where the folder is.
func TestPathsThatLeadAway(t *testing.T) {
	s := open(t, nil)
	keys, err := os.ReadFile(s.title.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	seg := s.title.Segments(t, "v0")[0]
	sealed := filepath.Join(s.title.Dir, "sealed", seg.Sealed.String()[:2], seg.Sealed.String())
	if err := errors.Join(os.Remove(sealed), os.Symlink(secret, sealed)); err != nil {
		t.Fatal(err)
	}
	folder := s.title.Segments(t, "v1")[0]
	sealed = filepath.Join(s.title.Dir, "sealed", folder.Sealed.String()[:2], folder.Sealed.String())
	if err := errors.Join(os.Remove(sealed), os.Mkdir(sealed, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/sealed/" + seg.Sealed.String(), "/sealed/" + folder.Sealed.String(),
		"/sealed/../title.keys", "/sealed/%2e%2e/title.keys", "/sealed/..%2ftitle.keys", "/sealed/%00", "/sealed/", "/sealed/ab/",
		"/t/title.keys", "/t/title.keys/", "/t/../title.keys", "/t/..%2ftitle.keys/manifest.mpd", "/t/%2e%2e/title.keys",
		"/t/title/../title.keys", "/t/title/..%2ftitle.keys", "/t/title/%2e%2e%2ftitle.keys", "/t/title/%2e%2e/%2e%2e/etc/passwd",
		"/t/title//etc/passwd", "/t/title/v0%00/1.m4s", "/t/title/manifest.mpd%00", "/t/title/manifest.mpd/", "/t/title/v0",
		"/t/title/sealed/" + seg.Sealed.String(), "/t/title/seals", "/t/title/seals/..%5c..%5ctitle.keys", "/t/title%2f..%2ftitle/manifest.mpd",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		// As it is: clients of Go would tidy the path.
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(conn)
		conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if status := string(b[9:12]); status == "200" || status == "206" {
			t.Errorf("%s: %s", path, status)
		}
		for _, leak := range [][]byte{keys[16:], []byte("outside"), []byte("root:"), []byte(filepath.Dir(s.title.Dir))} {
			if bytes.Contains(b, leak) {
				t.Errorf("%s tells what it must not: %.300s", path, b)
			}
		}
	}
}

// A title whose publisher names files outside of its folder is not sold.
func TestTitleThatNamesFilesElsewhere(t *testing.T) {
	for _, name := range []string{"../init.mp4", "/etc/passwd", "v0/../../init.mp4", "file:///etc/passwd", "%2e%2e/init.mp4", "..\\init.mp4"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			mpd := bytes.ReplaceAll(s.title.MPD, []byte("$RepresentationID$/init.mp4"), []byte(name))
			if bytes.Equal(mpd, s.title.MPD) {
				t.Fatal("the MPD looks otherwise than this test thinks")
			}
			if err := resign(s.title, mpd); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(s.title.Dir), "init.mp4"), []byte("outside"), 0o600); err != nil {
				t.Fatal(err)
			}
			_ = s.Reload(t.Context()) // what cannot be read stays as it was
			for _, path := range []string{"/t/title/init.mp4", "/t/title/..%2finit.mp4", "/t/title/etc/passwd", "/t/title/%252e%252e/init.mp4"} {
				if a := s.get(t, path); a.StatusCode == http.StatusOK {
					t.Errorf("%s: %s, %.40q", path, a.Status, a.body)
				}
			}
		})
	}
}

// Pages elsewhere can neither read the operator's figures nor change anything:
// there is nothing to change.
func TestOperatorsFaceAndForeignPages(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/", "/api/provider"} {
		a := s.get(t, s.operator+path, "Origin", "https://evil.example")
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: %q may read", path, got)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if a := s.do(t, method, s.operator+"/api/provider", "{}"); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, a.Status)
		}
	}
	if got := s.get(t, s.operator+"/").Header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") {
		t.Errorf("other pages may frame it: %q", got)
	}
}

// resign puts another MPD into a title's folder, signed by its publisher.
func resign(made *titletest.Title, mpd []byte) error {
	sig, err := made.Key.Sign(htlcdash.IDOf(mpd))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(made.Dir, title.MPDFile), mpd, 0o600),
		os.WriteFile(filepath.Join(made.Dir, title.SignatureFile), sig.Encode(), 0o600))
}

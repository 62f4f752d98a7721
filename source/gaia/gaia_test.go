package gaia_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/gaia"
	"htlcdash/source/gaia/gaiatest"
	"htlcdash/source/sourcetest"
	"htlcdash/source/web"
)

func key(t *testing.T, seed byte) gaia.Key {
	t.Helper()
	k, err := gaia.NewKey([32]byte{31: seed})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start serves a hub and its reader, through over if that is not nil, and
// returns the hub's address.
func start(t *testing.T, hub *gaiatest.Hub, over func(http.Handler) http.Handler) string {
	t.Helper()
	if over == nil {
		over = func(h http.Handler) http.Handler { return h }
	}
	reader := httptest.NewServer(over(hub.Reader()))
	t.Cleanup(reader.Close)
	hub.ReadURL = reader.URL + "/"
	writer := httptest.NewServer(hub.Writer())
	t.Cleanup(writer.Close)
	return writer.URL
}

func writer(t *testing.T, url string, k gaia.Key) *gaia.Place {
	t.Helper()
	p, err := gaia.NewWriter(url, "films/one", k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func filled(t *testing.T, blobs map[htlcdash.Blob][]byte, over func(http.Handler) http.Handler) *gaia.Place {
	t.Helper()
	url := start(t, &gaiatest.Hub{Challenge: "sign this"}, over)
	w := writer(t, url, key(t, 1))
	for b, data := range blobs {
		if err := w.Put(t.Context(), htlcdash.SealedPath(b.Root), data, false); err != nil {
			t.Fatal(err)
		}
	}
	p, err := gaia.New(url, key(t, 1).Address(), "films/one")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source { return filled(t, blobs, nil) })
}

// The read address is enough for who knows nothing of Gaia.
func TestSuiteByReadURL(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
		url, err := filled(t, blobs, nil).ReadURL(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w, err := web.New(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w
	})
}

func TestHostileReaders(t *testing.T) {
	sourcetest.RunHostile(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte, spoil func(http.Handler) http.Handler) source.Source {
		return filled(t, blobs, spoil)
	})
}

func TestStore(t *testing.T) {
	sourcetest.RunStore(t, func(t *testing.T) source.Store {
		return writer(t, start(t, &gaiatest.Hub{Challenge: "sign this"}, nil), key(t, 1))
	})
}

// The address is what other programs make of the same key: that of the secret 1
// is widely known.
func TestAddress(t *testing.T) {
	if got, want := key(t, 1).Address(), "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"; got != want {
		t.Errorf("address %s, want %s", got, want)
	}
	for s, want := range map[string]bool{
		"1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH": true,
		"1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMh": false,
		"":                                   false,
		strings.Repeat("1", 1000):            false,
	} {
		if gaia.IsAddress(s) != want {
			t.Errorf("%.50q: %v", s, !want)
		}
	}
}

func TestAnotherKeyCannotWrite(t *testing.T) {
	hub := &gaiatest.Hub{}
	url := start(t, hub, nil)
	mine, other := writer(t, url, key(t, 1)), key(t, 2)
	// who signs with another key writes to another bucket
	if err := writer(t, url, other).Put(t.Context(), "x", []byte("x"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Stat(t.Context(), "x"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("another's file is here: %v", err)
	}
	reading, err := gaia.New(url, key(t, 1).Address(), "films/one")
	if err != nil {
		t.Fatal(err)
	}
	if err := reading.Put(t.Context(), "x", []byte("x"), false); err == nil {
		t.Error("it wrote without a key")
	}
	if n := len(hub.Files()); n != 1 {
		t.Errorf("%d files", n)
	}
}

// A hub may change its challenge: the token is made anew, once.
func TestNewChallenge(t *testing.T) {
	hub := &gaiatest.Hub{Challenge: "old"}
	p := writer(t, start(t, hub, nil), key(t, 1))
	if err := p.Put(t.Context(), "a", nil, false); err != nil {
		t.Fatal(err)
	}
	hub.Challenge = "new"
	if err := p.Put(t.Context(), "b", nil, false); err != nil {
		t.Errorf("after the challenge had changed: %v", err)
	}
}

func TestErrorsForPeople(t *testing.T) {
	big := make([]byte, 2<<20)
	if err := writer(t, start(t, &gaiatest.Hub{MaxMiB: 1}, nil), key(t, 1)).Put(t.Context(), "a", big, false); err == nil || !strings.Contains(err.Error(), "shorter segments") {
		t.Errorf("too large: %v", err)
	}
	for _, c := range []struct {
		name, info string
		status     int
		want       string
	}{
		{"no hub", "<html>", 404, "is it the address of a Gaia hub"},
		{"no JSON", "<html>", 200, "hub_info"},
		{"no read side", `{"latest_auth_version":"v1"}`, 200, "read_url_prefix"},
		{"old", `{"latest_auth_version":"v0","read_url_prefix":"https://read.example/"}`, 200, "too old"},
		{"refuses", `{"latest_auth_version":"v1","read_url_prefix":"https://read.example/"}`, 200, "refuses our token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.info))
			}))
			t.Cleanup(s.Close)
			if err := writer(t, s.URL, key(t, 1)).Put(t.Context(), "a", nil, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// A hub that is elsewhere must not send us into our own network.
func TestReadSideStaysPublic(t *testing.T) {
	var knocked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { knocked.Add(1) }))
	t.Cleanup(inside.Close)
	p, err := gaia.New("http://hub.example", key(t, 1).Address(), "")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := sourcetest.Blob(1, htlcdash.LeafSize)
	if err := p.Told(inside.URL + "/"); err != nil {
		t.Fatal(err)
	}
	if err := p.Has(t.Context(), b); !errors.Is(err, web.ErrPrivate) || knocked.Load() > 0 {
		t.Errorf("got %v after %d requests, want %v", err, knocked.Load(), web.ErrPrivate)
	}
}

// Its key writes in one's name: it goes to no stranger, and nowhere in the clear.
func TestTheKeyStaysSecret(t *testing.T) {
	k := key(t, 77)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v", k, k), fmt.Sprint(writer(t, "https://hub.example", k))} {
		if strings.Contains(s, "4d") && strings.Contains(s, "000000") {
			t.Errorf("the key prints: %s", s)
		}
	}
	if _, err := gaia.NewWriter("http://hub.example", "", k); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("in the clear: %v", err)
	}
	var stray atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			stray.Add(1)
		}
	}))
	t.Cleanup(elsewhere.Close)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprintf(w, `{"latest_auth_version":"v1","read_url_prefix":%q}`, elsewhere.URL+"/")
	}))
	t.Cleanup(hub.Close)
	if err := writer(t, hub.URL, k).Put(t.Context(), "a", nil, false); err == nil {
		t.Error("a redirect counts as written")
	}
	if stray.Load() > 0 {
		t.Error("the token went to another server")
	}
}

func FuzzHubInfo(f *testing.F) {
	f.Add([]byte(`{"challenge_text":"x","latest_auth_version":"v1","read_url_prefix":"https://read.example/hub/","max_file_upload_size_megabytes":20}`))
	f.Add([]byte(`{"latest_auth_version":"v0","read_url_prefix":"file:///etc"}`))
	f.Add([]byte(`{"max_file_upload_size_megabytes":-1e300}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := gaia.ParseInfo(b)
		if err != nil {
			return
		}
		if i.Read.Host == "" || i.Read.Scheme != "http" && i.Read.Scheme != "https" || i.MaxFileMiB < 0 {
			t.Errorf("accepted %+v", i)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH")
	f.Fuzz(func(t *testing.T, s string) {
		if gaia.IsAddress(s) && (len(s) > 64 || strings.ContainsAny(s, "/?#%. ")) {
			t.Errorf("%q is no address", s)
		}
	})
}

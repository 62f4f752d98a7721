package directory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/nostr"
)

var film = htlcdash.TitleID{1: 0xab}

func keyOf(t testing.TB, n int) htlcdash.ProviderKey {
	t.Helper()
	k, err := htlcdash.NewProviderKey([32]byte{29: byte(n >> 8), 30: byte(n), 31: 9})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// patience is for what should come soon, on any machine.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until waits for ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := patience(t)
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// keyAt asks an address as the program does.
func keyAt(ctx context.Context, address string) (id htlcdash.ProviderID, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/provider", nil)
	if err != nil {
		return id, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return id, err
	}
	defer resp.Body.Close()
	var info struct {
		Key htlcdash.ProviderID `json:"key"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&info)
	return info.Key, err
}

// A provider on loopback, as far as the directory sees one.
type provider struct {
	key   htlcdash.ProviderKey
	url   string
	host  *directory.Host
	asked atomic.Int32 // times that its key was asked for
	stop  func()
}

func (p *provider) id() htlcdash.ProviderID { return p.key.ID() }

// openProvider starts provider number n with some peers.
func openProvider(t *testing.T, n int, change func(*directory.HostConfig), peers ...string) *provider {
	t.Helper()
	p := &provider{key: keyOf(t, n)}
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	p.url = s.URL
	c := directory.HostConfig{
		Key: p.key, Addresses: []string{s.URL}, Peers: peers, KeyAt: keyAt, Local: true, Name: fmt.Sprint("provider ", n), Pause: 5 * time.Millisecond,
	}
	if change != nil {
		change(&c)
	}
	host, err := directory.NewHost(c)
	if err != nil {
		t.Fatal(err)
	}
	p.host = host
	mux.HandleFunc("/v1/provider", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		_, _ = fmt.Fprintf(w, `{"version":1,"key":%q}`, p.key.ID())
	})
	mux.Handle("/", host)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { host.Run(ctx) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
		s.CloseClientConnections()
		s.Close()
	})
	t.Cleanup(p.stop)
	return p
}

// offer is what is announced of a title.
func offer(title htlcdash.TitleID, name string) directory.Announcement {
	return directory.Announcement{
		Title: title, Publisher: htlcdash.PublisherID{5}, Name: name, Label: "A film", Factor: directory.PPM, PerMiB: 3,
		Sources: []string{"https://bucket.example/films"}, Infohashes: []string{"0123456789abcdef0123456789abcdef01234567"},
		Seeds: []string{"seed.example:6881"},
	}
}

func (p *provider) sell(t *testing.T, titles ...htlcdash.TitleID) {
	t.Helper()
	var list []directory.Announcement
	for _, id := range titles {
		list = append(list, offer(id, "bunny"))
	}
	if err := p.host.Sell(list); err != nil {
		t.Fatal(err)
	}
}

// viewer opens a directory that asks some relays.
func viewer(t *testing.T, relays ...string) *directory.Directory {
	t.Helper()
	d, err := directory.New(directory.Config{Relays: relays, KeyAt: keyAt, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sells reports whether who asks only this provider is told of a seller.
func (p *provider) tells(t *testing.T, title htlcdash.TitleID, seller htlcdash.ProviderID) bool {
	t.Helper()
	d := viewer(t, p.url)
	defer d.Close()
	found, _ := d.Find(t.Context(), title)
	for _, s := range found {
		if s.Provider == seller {
			return true
		}
	}
	return false
}

// client connects to a relay.
func client(t *testing.T, url string) *nostr.Client {
	t.Helper()
	return clientBy(t, url, nil)
}

func clientBy(t *testing.T, url string, via *http.Client) *nostr.Client {
	t.Helper()
	c, err := nostr.NewClient(url, nostr.ClientConfig{HTTP: via, Pause: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	return c
}

// socket is where a provider's relay is.
func (p *provider) socket() string { return "ws" + p.url[len("http"):] + "/v1/relay" }

// announce signs what provider number n says.
func announce(t *testing.T, n int, a directory.Announcement) nostr.Event {
	t.Helper()
	e, err := a.Sign(keyOf(t, n))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// at gives a times and addresses.
func at(a directory.Announcement, made time.Time, life time.Duration, addresses ...string) directory.Announcement {
	a.At, a.Expires, a.Addresses = made, made.Add(life), addresses
	return a
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

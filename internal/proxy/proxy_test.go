package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/proxy"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// A spender is a buyer that opens segments with the publisher's own keys and
// keeps count of what it would have paid.
type spender struct {
	title *titletest.Title
	file  []byte        // of an on-demand title
	delay time.Duration // of a purchase
	line  int           // bit/s of the network, as told with each purchase; 0: not told

	mu      sync.Mutex
	bought  []string          // "v0/3", in the order of the asking
	offers  []string          // "v0/3", in the order of the asking; "|" ends a request
	got     []string          // "v0/3": whose sealed bytes were fetched ahead
	ready   []string          // "v0/3": whose offers were proved ahead
	owned   map[[32]byte]bool // by hash of the key
	account buyer.Account
	err     error
	news    chan buyer.Purchase
}

func newSpender(t *titletest.Title) *spender {
	return &spender{
		title:   t,
		owned:   map[[32]byte]bool{},
		account: buyer.Account{Budget: buyer.NoLimit, DayLeft: buyer.NoLimit, Risk: t.Dearest()},
		news:    make(chan buyer.Purchase, 1000),
	}
}

func (s *spender) Segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error) {
	s.mu.Lock()
	left, limited := s.account.Left()
	err := s.err
	switch {
	case err != nil || s.owned[seg.KeyHash]:
	case s.account.Stopped:
		err = buyer.ErrStopped
	case limited && seg.Price > left:
		err = buyer.ErrBudget
	default:
		s.bought = append(s.bought, fmt.Sprintf("%s/%d", seg.Representation, seg.Index))
		s.owned[seg.KeyHash] = true
		s.account.Spent += seg.Price
		p := buyer.Purchase{Hash: lightning.Hash(seg.Sealed), Title: seg.Title, Representation: seg.Representation, Index: seg.Index, Amount: seg.Price, State: "paid", At: time.Now()}
		if s.line > 0 {
			p.Bytes = time.Duration(float64(8*seg.Length) / float64(s.line) * float64(time.Second))
		}
		s.news <- p
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(s.delay):
		return s.plain(seg), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// plain is what a title's segment opens to. Titles that titletest did not make
// lie in files.
func (s *spender) plain(seg htlcdash.Segment) []byte {
	if file := s.file; file != nil {
		for _, r := range s.title.Manifest.Representations() {
			if r.ID == seg.Representation {
				at := r.Segments[seg.Index]
				return file[at.Offset:][:at.Length]
			}
		}
	}
	return s.title.Plain(seg.Representation, seg.Index)
}

func (s *spender) Prepare(_ context.Context, segs []htlcdash.Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range segs {
		s.offers = append(s.offers, fmt.Sprintf("%s/%d", seg.Representation, seg.Index))
	}
	s.offers = append(s.offers, "|")
}

func (s *spender) Ready(_ context.Context, seg htlcdash.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, fmt.Sprintf("%s/%d", seg.Representation, seg.Index))
	return nil
}

func (s *spender) Download(_ context.Context, seg htlcdash.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprintf("%s/%d", seg.Representation, seg.Index))
	return nil
}

func (s *spender) Account(htlcdash.TitleID) buyer.Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account
}

func (s *spender) Standing(htlcdash.TitleID) []buyer.Standing {
	return []buyer.Standing{{Provider: "https://films.example", State: "favourite", Factor: 0.9, Sold: 3}}
}

func (s *spender) SetTitleBudget(_ context.Context, _ htlcdash.TitleID, m lightning.Msat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account.Budget = m
	return nil
}

func (s *spender) Stop(htlcdash.TitleID)   { s.setStopped(true) }
func (s *spender) Resume(htlcdash.TitleID) { s.setStopped(false) }

func (s *spender) setStopped(stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account.Stopped = stopped
}

func (s *spender) Watch(ctx context.Context) <-chan buyer.Purchase {
	out := make(chan buyer.Purchase)
	go func() {
		defer close(out)
		for {
			select {
			case p := <-s.news:
				select {
				case out <- p:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// take returns what was bought since the last call, sorted.
func (s *spender) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bought
	s.bought = nil
	slices.Sort(b)
	return b
}

func (s *spender) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// A house is a proxy with one sealed title called "film".
type house struct {
	*proxy.Proxy
	*spender
}

// open makes a house. In a synctest bubble it is closed before the bubble
// ends, which shows that no goroutine is left.
func open(t *testing.T, title *titletest.Title, change ...func(*proxy.Config, *spender)) *house {
	t.Helper()
	s := newSpender(title)
	s.news = make(chan buyer.Purchase, 1000)
	c := proxy.Config{Buyer: s}
	for _, f := range change {
		f(&c, s)
	}
	p, err := proxy.New(c)
	check(t, err)
	check(t, p.Add("film", title.Title))
	return &house{p, s}
}

func (h *house) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	return w
}

// get asks as a player on this machine does. A header is "Name: value".
func (h *house) get(path string, headers ...string) *httptest.ResponseRecorder {
	return h.do(request(http.MethodGet, path, headers...))
}

func request(method, path string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "http://localhost:8403"+path, nil)
	for _, h := range headers {
		name, value, _ := bytes.Cut([]byte(h), []byte(": "))
		r.Header.Set(string(name), string(value))
	}
	return r
}

func (h *house) state(t testing.TB) proxy.TitleState {
	t.Helper()
	var s proxy.State
	check(t, json.Unmarshal(h.get("/api/state?title=film").Body.Bytes(), &s))
	return *s.Title
}

func said(cmcd string) string { return "?CMCD=" + url.QueryEscape(cmcd) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// bubble runs f with a fake clock.
func bubble(t *testing.T, title *titletest.Title, f func(*testing.T, *house), change ...func(*proxy.Config, *spender)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, title, change...)
		f(t, h)
		synctest.Wait()
		check(t, h.Close())
	})
}

func TestServesAFilmToAPlayer(t *testing.T) {
	title := titletest.Make(t, titletest.Options{})
	bubble(t, title, func(t *testing.T, h *house) {
		for _, name := range []string{"film", title.ID.String()} {
			w := h.get("/t/" + name + "/manifest.mpd")
			want(t, "MPD", w.Code, 200)
			want(t, "type of the MPD", w.Header().Get("Content-Type"), "application/dash+xml")
		}
		want(t, "bought for the MPD", h.take(), []string{})

		w := h.get("/t/film/v0/init.mp4")
		want(t, "init", w.Code, 200)
		want(t, "length of the init", w.Body.Len(), 700)
		want(t, "bought for the init", h.take(), []string{})

		w = h.get("/t/film/v1/3.m4s")
		want(t, "segment", w.Code, 200)
		want(t, "type", w.Header().Get("Content-Type"), "video/mp4")
		want(t, "length", w.Header().Get("Content-Length"), "90001")
		want(t, "bytes", bytes.Equal(w.Body.Bytes(), title.Plain("v1", 2)), true)
		want(t, "bought", h.take(), []string{"v1/2"})
	})
}

func TestHeadCostsNothing(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		w := h.do(request(http.MethodHead, "/t/film/v1/2.m4s"))
		want(t, "status", w.Code, 200)
		want(t, "length", w.Header().Get("Content-Length"), "65536")
		want(t, "ranges", w.Header().Get("Accept-Ranges"), "bytes")
		want(t, "body", w.Body.Len(), 0)
		want(t, "bought", h.take(), []string{})
	})
}

func TestWhatIsNoPartOfATitle(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		for _, path := range []string{
			"/t/film/v0/6.m4s", "/t/film/v9/1.m4s", "/t/other/manifest.mpd", "/t/film/manifest.mpd.sig", "/t/film/seals/v0.seals",
			"/t/film/..%2f..%2fetc%2fpasswd", "/t/film/%2e%2e/x", "/t/film/v0%2f..%2fv1%2f1.m4s", "/t/film/", "/nothing", "/static/../viewer.html", "/static/%2e%2e/web.go",
		} {
			if w := h.get(path); w.Code != http.StatusNotFound && w.Code/100 != 3 {
				t.Errorf("%s: got %d, want 404", path, w.Code)
			}
		}
		want(t, "bought", h.take(), []string{})
	})
}

func TestRequestsAreJoined(t *testing.T) {
	title := titletest.Make(t, titletest.Options{})
	bubble(t, title, func(t *testing.T, h *house) {
		var players sync.WaitGroup
		for range 16 {
			players.Go(func() {
				w := h.get("/t/film/v1/1.m4s")
				want(t, "status", w.Code, 200)
				want(t, "bytes", bytes.Equal(w.Body.Bytes(), title.Plain("v1", 0)), true)
			})
		}
		players.Wait()
		want(t, "bought", h.take(), []string{"v1/0"})
	}, func(c *proxy.Config, s *spender) { s.delay = time.Second })
}

func TestAPurchaseOutlivesThePlayer(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		h.do(request(http.MethodGet, "/t/film/v1/1.m4s").WithContext(ctx))
		time.Sleep(3 * time.Second)
		h.set(buyer.ErrStopped) // what comes now is there already
		want(t, "status", h.get("/t/film/v1/1.m4s").Code, 200)
		want(t, "bought", h.take(), []string{"v1/0"})
	}, func(c *proxy.Config, s *spender) { s.delay = 3 * time.Second })
}

func TestAPlayerIsHeldAndThenToldToComeBack(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		began := time.Now()
		w := h.get("/t/film/v1/1.m4s")
		want(t, "status", w.Code, http.StatusGatewayTimeout)
		want(t, "retry", w.Header().Get("Retry-After"), "1")
		want(t, "held", time.Since(began), 3500*time.Millisecond)
		want(t, "trouble", h.state(t).Trouble.Kind, "slow")
		time.Sleep(time.Second)
		want(t, "second try", h.get("/t/film/v1/1.m4s").Code, 200)
		want(t, "trouble is over", h.state(t).Trouble, (*proxy.Trouble)(nil))
		want(t, "bought once", h.take(), []string{"v1/0"})
	}, func(c *proxy.Config, s *spender) { s.delay = 5 * time.Second })
}

func TestOurPageIsHeldLonger(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		began := time.Now()
		want(t, "status", h.get("/t/film/v1/1.m4s", "Sec-Fetch-Site: same-origin").Code, 200)
		want(t, "held", time.Since(began), 5*time.Second)
	}, func(c *proxy.Config, s *spender) { s.delay = 5 * time.Second })
}

func TestNoPlayerEverSeesA402(t *testing.T) {
	tests := []struct {
		err  error
		kind string
	}{
		{buyer.ErrBudget, "budget"},
		{buyer.ErrStopped, "stopped"},
		{buyer.ErrPrice, "price"},
		{buyer.ErrNoOffer, "provider"},
		{buyer.ErrTerms, "provider"},
		{buyer.ErrCheated, "cheated"},
		{lightning.ErrFailed, "payment"},
		{lightning.ErrInFlight, "payment"},
		{fmt.Errorf("%w: %w", lightning.ErrInFlight, lightning.ErrUnavailable), "node"},
		{lightning.ErrDenied, "node"},
		{htlcdash.ErrCorrupt, "provider"},
		{context.DeadlineExceeded, "slow"},
		{io.ErrUnexpectedEOF, "provider"},
	}
	title := titletest.Make(t, titletest.Options{})
	for _, test := range tests {
		t.Run(test.err.Error(), func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.set(fmt.Errorf("segment: %w", test.err))
				w := h.get("/t/film/v0/1.m4s")
				want(t, "status", w.Code, http.StatusServiceUnavailable)
				if w.Header().Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				trouble := h.state(t).Trouble
				want(t, "kind", trouble.Kind, test.kind)
				if trouble.Text == "" || trouble.Then == "" {
					t.Errorf("the page has nothing to say: %+v", trouble)
				}
				h.set(nil)
				want(t, "afterwards", h.get("/t/film/v0/1.m4s").Code, 200)
			})
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 30})
	bubble(t, title, func(t *testing.T, h *house) {
		for i := range 30 {
			want(t, "status", h.get(fmt.Sprintf("/t/film/v1/%d.m4s", i+1)).Code, 200)
		}
		h.set(buyer.ErrStopped)
		want(t, "the last is on the shelf", h.get("/t/film/v1/30.m4s").Code, 200)
		want(t, "the first is not", h.get("/t/film/v1/1.m4s").Code, 503)
	}, func(c *proxy.Config, s *spender) { c.Memory = 400_000 })
}

func TestCloseEndsWhatWaits(t *testing.T) {
	title := titletest.Make(t, titletest.Options{})
	synctest.Test(t, func(t *testing.T) {
		h := open(t, title, func(c *proxy.Config, s *spender) { s.delay = time.Hour; c.Hold = time.Hour })
		done := make(chan int)
		go func() { done <- h.get("/t/film/v0/1.m4s").Code }()
		go func() { done <- h.get("/api/events?title=film").Code }()
		synctest.Wait()
		check(t, h.Close())
		for range 2 {
			if code := <-done; code != 200 && code != 503 {
				t.Errorf("got %d", code)
			}
		}
		want(t, "after Close", h.get("/t/film/v0/2.m4s").Code, 503)
	})
}

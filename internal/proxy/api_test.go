package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
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

func (h *house) post(path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("X-Htlcdash", "1")
	return h.do(r)
}

func TestTheBudgetBounds(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 10})
	// For the whole film v0 costs 10, v1 30, a0 5 sat. A player may look at the
	// first of v0 besides, and 3 % are added for what it buys twice.
	tests := []struct {
		name   string
		budget lightning.Msat
		cap    int64
		enough bool
	}{
		{"no limit", buyer.NoLimit, 0, true},
		{"plenty", 100_000, 720008, true},
		{"just the best", 37_110, 720008, true},
		{"not quite the best", 37_000, 264000, true},
		{"just the lowest", 15_000, 264000, true},
		{"not quite the lowest", 14_999, 264000, false},
		{"nothing", 0, 264000, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.account.Budget = test.budget
				ours := h.get("/t/film/manifest.mpd?all=1").Body.String()
				others := h.get("/t/film/manifest.mpd").Body.String()
				synctest.Wait()
				s := h.state(t)
				want(t, "cap", s.Cap, test.cap)
				want(t, "enough", s.Enough, test.enough)
				want(t, "who sells it", fmt.Sprint(s.Providers), fmt.Sprint(h.Standing(s.ID)))
				for _, r := range s.Rungs {
					want(t, "allowed "+r.ID, r.Allowed, test.cap == 0 || r.Kind != "video" || r.Bandwidth <= test.cap)
				}
				want(t, "cap in the MPD", strings.Contains(others, fmt.Sprintf(`max="%d"`, test.cap)), test.cap > 0)
				want(t, "cap in the MPD of our page, which follows the agent", strings.Contains(ours, "OperatingBandwidth"), false)
				want(t, "all rungs for our page", strings.Contains(ours, `id="v1"`), true)
				want(t, "the best for other players", strings.Contains(others, `id="v1"`), test.cap != 264000)
				want(t, "the lowest for other players", strings.Contains(others, `id="v0"`), true)
			}, func(c *proxy.Config, s *spender) { c.NoEarlyBuy = true })
		})
	}
}

func TestTheCapFollowsTheMoney(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{Segments: 10}), func(t *testing.T, h *house) {
		caps := func() int64 { synctest.Wait(); return h.state(t).Cap }
		h.get("/t/film/manifest.mpd?all=1")
		h.account.Budget = 37_110
		want(t, "at the start", caps(), int64(720008))
		for i := range 3 { // the money of the best, for the lowest
			want(t, "status", h.get(fmt.Sprintf("/t/film/v1/%d.m4s", i+1)).Code, 200)
		}
		want(t, "as planned", caps(), int64(720008))
		h.post("/api/budget", `{"title":"film","msat":30000}`)
		want(t, "after a cut", caps(), int64(264000))
		h.post("/api/budget", `{"title":"film","msat":40000}`)
		want(t, "with more", caps(), int64(720008))
		h.post("/api/budget", `{"title":"film","msat":9000}`)
		want(t, "nothing left", caps(), int64(264000))
		want(t, "what is owned plays", h.get("/t/film/v1/2.m4s").Code, 200)
		want(t, "beyond it the money is out", h.get("/t/film/v0/4.m4s").Code, 503)
		want(t, "trouble", h.state(t).Trouble.Kind, "budget")
	}, func(c *proxy.Config, s *spender) { c.NoEarlyBuy = true; c.Ahead.Segments = -1 })
}

// Routes that were dear are taken to stay so.
func TestTheCapCountsFees(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{Segments: 10}), func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd?all=1")
		for _, test := range []struct {
			fees lightning.Msat // of 10 sat spent before
			cap  int64
		}{
			{0, 720008}, {909, 720008}, {2_000, 264000},
		} {
			h.account.Spent, h.account.Fees = 10_000, test.fees
			h.account.Budget = h.account.Spent + 41_000
			synctest.Wait()
			want(t, fmt.Sprint("cap with fees of ", test.fees), h.state(t).Cap, test.cap)
		}
		want(t, "to the end", h.state(t).ToEnd, lightning.Msat(15_000*125/100))
	}, func(c *proxy.Config, s *spender) { c.NoEarlyBuy = true })
}

func TestBooksOfEarlierRunsCount(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 4})
	books := func(_ context.Context, id htlcdash.TitleID, limit int) iter.Seq2[buyer.Purchase, error] {
		return func(yield func(buyer.Purchase, error) bool) {
			for i := range 99 { // more than there are: they must do no harm
				if !yield(buyer.Purchase{Hash: lightning.Hash{byte(i)}, Title: id, Representation: "v1", Index: i, Amount: 3000, Fee: 1, State: "paid", Provider: "=cmd()", Reason: "@x"}, nil) {
					return
				}
			}
		}
	}
	bubble(t, title, func(t *testing.T, h *house) {
		h.account.Budget = 2_100 // the sound alone
		h.get("/t/film/manifest.mpd?all=1")
		synctest.Wait()
		s := h.state(t)
		want(t, "cap", s.Cap, int64(720008))
		want(t, "enough", s.Enough, true)
		want(t, "to start with", s.Start, []string{"v1", "a0"})

		var list []buyer.Purchase
		check(t, json.Unmarshal(h.get("/api/ledger?title=film").Body.Bytes(), &list))
		want(t, "purchases", len(list), 99)
		w := h.get("/api/ledger.csv?title=film")
		rows, err := csv.NewReader(w.Body).ReadAll()
		check(t, err)
		want(t, "rows", len(rows), 100)
		want(t, "a row", rows[1][2:8], []string{"v1", "0", "paid", "3000", "1", "'=cmd()"})
		want(t, "no title", h.get("/api/ledger").Code, 400)
		want(t, "another title", h.get("/api/ledger.csv?title=x").Code, 404)
	}, func(c *proxy.Config, s *spender) { c.Purchases = books; c.NoEarlyBuy = true })
}

func TestStopAndResume(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		want(t, "stop", h.post("/api/stop", `{"title":"film"}`).Code, 200)
		want(t, "stopped", h.state(t).Stopped, true)
		want(t, "media", h.get("/t/film/v0/1.m4s").Code, 503)
		want(t, "trouble", h.state(t).Trouble.Kind, "stopped")
		want(t, "resume", h.post("/api/resume", `{"title":"film"}`).Code, 200)
		want(t, "trouble is over", h.state(t).Trouble, (*proxy.Trouble)(nil))
		want(t, "media", h.get("/t/film/v0/1.m4s").Code, 200)
	})
}

func TestWhichLimitBinds(t *testing.T) {
	tests := []struct {
		name    string
		account buyer.Account
		text    string
	}{
		{"of the film", buyer.Account{Budget: 0, DayLeft: buyer.NoLimit}, "The budget for this film"},
		{"of the day", buyer.Account{Budget: buyer.NoLimit, DayLeft: 0}, "The limit for a day"},
		{"of a segment", buyer.Account{Budget: buyer.NoLimit, DayLeft: buyer.NoLimit}, "A segment costs more"},
	}
	title := titletest.Make(t, titletest.Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				h.account = test.account
				h.set(buyer.ErrBudget)
				w := h.get("/t/film/v0/1.m4s")
				want(t, "told to the player: "+w.Body.String(), strings.HasPrefix(w.Body.String(), test.text), true)
			})
		})
	}
}

func TestBadChanges(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		for body, status := range map[string]int{
			``:                                    400,
			`{`:                                   400,
			`[]`:                                  400,
			`{"title":"film"}`:                    400,
			`{"title":"film","msat":-1}`:          400,
			`{"title":"film","msat":1.5}`:         400,
			`{"title":"film","msat":1e99}`:        400,
			`{"title":"film","msat":"1"}`:         400,
			`{"title":"film","msat":1,"x":1}`:     400,
			`{"title":"x","msat":1}`:              404,
			`{"title":"film","msat":0}`:           200,
			strings.Repeat(" ", 5000) + `{"t":1}`: 400,
		} {
			want(t, body, h.post("/api/budget", body).Code, status)
		}
		want(t, "by GET", h.get("/api/budget").Code, http.StatusNotFound)
		want(t, "the page", h.get("/").Code, 200)
	})
}

// A recorder of a stream that can be read while it is written.
type recorder struct {
	mu     sync.Mutex
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
func (r *recorder) Flush()              {}
func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.body.Write(b)
}

// take returns the events since the last call, "name data".
func (r *recorder) take() (events []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := ""
	for s := bufio.NewScanner(&r.body); s.Scan(); {
		if n, ok := strings.CutPrefix(s.Text(), "event: "); ok {
			name = n
		} else if data, ok := strings.CutPrefix(s.Text(), "data: "); ok {
			events = append(events, name+" "+data)
		}
	}
	r.body.Reset()
	return events
}

func TestEvents(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{Segments: 40}), func(t *testing.T, h *house) {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		r := &recorder{header: http.Header{}}
		go h.Handler().ServeHTTP(r, request(http.MethodGet, "/api/events?title=film").WithContext(ctx))
		synctest.Wait()
		first := r.take()
		want(t, "at once", len(first), 2)
		want(t, "the past", first[0], "purchases []")

		for i := range 40 { // 40 changes in 2 s
			h.get(fmt.Sprintf("/t/film/v0/%d.m4s", i+1))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		events := r.take()
		states := slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !strings.HasPrefix(e, "state ") })
		if n := len(states); n < 6 || n > 10 {
			t.Errorf("%d states in 2 s", n)
		}
		hashes := map[string]bool{}
		for _, e := range events {
			if strings.HasPrefix(e, "purchases ") {
				for _, m := range regexp.MustCompile(`"hash":"(\w+)"`).FindAllStringSubmatch(e, -1) {
					want(t, "told twice", hashes[m[1]], false)
					hashes[m[1]] = true
				}
			}
		}
		want(t, "purchases told", len(hashes), 40)

		time.Sleep(time.Hour)
		if n := len(r.take()); n > 1 { // the player counts as gone once
			t.Errorf("%d events while nothing changed", n)
		}
	})
}

func TestWatchersAreBounded(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		ctx, leave := context.WithCancel(t.Context())
		for range 32 {
			go h.do(request(http.MethodGet, "/api/events").WithContext(ctx))
		}
		synctest.Wait()
		want(t, "one more", h.get("/api/events").Code, 503)
		leave()
		synctest.Wait()
		ctx, leave = context.WithTimeout(t.Context(), time.Second)
		defer leave()
		want(t, "after they left", h.do(request(http.MethodGet, "/api/events").WithContext(ctx)).Code, 200)
	})
}

type wallet struct {
	asked int
	err   error
}

func (w *wallet) Balance(context.Context) (lightning.Balance, error) {
	w.asked++
	return lightning.Balance{Outbound: 21_000}, w.err
}

func TestTheBalance(t *testing.T) {
	purse := &wallet{}
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		get := func() (s proxy.State) {
			synctest.Wait()
			check(t, json.Unmarshal(h.get("/api/state").Body.Bytes(), &s))
			synctest.Wait()
			return s
		}
		want(t, "before the node has answered", get().Wallet, (*proxy.WalletReport)(nil))
		for range 50 {
			want(t, "balance", get().Wallet.Balance, lightning.Msat(21_000))
		}
		want(t, "calls of the node", purse.asked, 1)
		purse.err = lightning.ErrUnavailable
		time.Sleep(time.Minute)
		get()
		w := get().Wallet
		want(t, "the last that is known", w.Balance, lightning.Msat(21_000))
		want(t, "in words", w.Error, "Your Lightning node does not answer.")
	}, func(c *proxy.Config, s *spender) { c.Wallet = purse })
}

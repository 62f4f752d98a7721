package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/proxy"
	"htlcdash/internal/survey"
	"htlcdash/internal/title/titletest"
)

// stalls is a market that takes a second to look at.
type stalls struct {
	looks  atomic.Int32
	err    error
	wanted []htlcdash.TitleID
}

func (s *stalls) Look(ctx context.Context) (survey.Report, error) {
	s.looks.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return survey.Report{}, ctx.Err()
	}
	return survey.Report{Titles: []survey.Title{{ID: htlcdash.TitleID{5}, Title: "Five"}}}, s.err
}

func (s *stalls) Want(id htlcdash.TitleID) error {
	if s.err == nil {
		s.wanted = append(s.wanted, id)
	}
	return s.err
}

// The market is looked at once for all who ask within half a minute, and not when
// nobody does.
func TestTheMarketIsAskedSeldom(t *testing.T) {
	m := &stalls{}
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		want(t, "looks before anybody asks", m.looks.Load(), 0)
		done := make(chan int, 20)
		for range cap(done) {
			go func() { done <- h.get("/api/market").Code }()
		}
		for range cap(done) {
			want(t, "status", <-done, 200)
		}
		var r survey.Report
		check(t, json.Unmarshal(h.get("/api/market").Body.Bytes(), &r))
		want(t, "titles", len(r.Titles), 1)
		want(t, "looks", m.looks.Load(), 1)
		time.Sleep(time.Minute)
		h.get("/api/market")
		want(t, "looks a minute later", m.looks.Load(), 2)
		m.err = errors.New("secret words")
		time.Sleep(time.Minute)
		w := h.get("/api/market")
		want(t, "status of nobody", w.Code, http.StatusServiceUnavailable)
		if strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "proxy.relays") {
			t.Errorf("it says %q", w.Body)
		}
		go h.get("/api/market") // Close ends what is under way
		synctest.Wait()
	}, func(c *proxy.Config, _ *spender) { c.Market = m })
}

func TestWant(t *testing.T) {
	m := &stalls{}
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		id := htlcdash.TitleID{5}
		want(t, "status", h.post("/api/want", fmt.Sprintf(`{"title":%q}`, id)).Code, 200)
		want(t, "wanted", fmt.Sprint(m.wanted), fmt.Sprint([]htlcdash.TitleID{id}))
		for _, body := range []string{`{"title":"x"}`, `{}`, `{"title":"` + id.String() + `","y":1}`, strings.Repeat(" ", 5000) + "{}"} {
			want(t, body[:min(len(body), 20)], h.post("/api/want", body).Code, 400)
		}
		m.err = errors.New("too many")
		want(t, "status of a refusal", h.post("/api/want", fmt.Sprintf(`{"title":%q}`, id)).Code, 409)
		want(t, "wanted by a link", h.get("/api/want").Code, 404)
		want(t, "wanted", len(m.wanted), 1)
	}, func(c *proxy.Config, _ *spender) { c.Market = m })
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		want(t, "no market", h.get("/api/market").Code, 404)
		want(t, "no market", h.post("/api/want", fmt.Sprintf(`{"title":%q}`, htlcdash.TitleID{5})).Code, 404)
	})
}

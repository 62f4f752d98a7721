package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/proxy"
	"htlcdash/internal/title/titletest"
)

func TestWhoMaySpend(t *testing.T) {
	const media, page, api, post = "/t/film/v0/1.m4s", "/", "/api/state?title=film", "/api/stop"
	const mozilla = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Version/15.0 Safari/605.1.15"
	tests := []struct {
		name    string
		host    string
		path    string // a path with "stop" is posted to
		headers []string
		want    int
	}{
		{"a player here", "127.0.0.1:8403", media, nil, 200},
		{"a player here, by name", "localhost", media, nil, 200},
		{"a player here, IPv6", "[::1]:8403", media, nil, 200},
		{"a player here, another loopback", "127.9.8.7:1", media, nil, 200},
		{"a name that is configured", "films.example:8403", media, nil, 200},
		{"the same, written otherwise", "FILMS.example.", media, nil, 200},
		{"a name that rebinds to us", "evil.example:8403", media, nil, 421},
		{"the same, for the page", "evil.example", page, nil, 421},
		{"the same, for the facts", "evil.example", api, nil, 421},
		{"a name that looks like ours", "localhost.evil.example", media, nil, 421},
		{"a name with a loopback in it", "127.0.0.1.evil.example", media, nil, 421},
		{"another address of this machine", "192.168.1.5:8403", media, nil, 421},
		{"no host", "", media, nil, 421},

		{"our page", "localhost:8403", media, []string{"Origin: http://localhost:8403"}, 200},
		{"our page, as browsers tell", "localhost:8403", media, []string{"Sec-Fetch-Site: same-origin"}, 200},
		{"typed into the browser", "localhost:8403", media, []string{"Sec-Fetch-Site: none"}, 200},
		{"an image of a foreign page", "localhost:8403", media, []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"an image of a page on another port", "localhost:8403", media, []string{"Sec-Fetch-Site: same-site"}, 403},
		{"a fetch of a foreign page", "localhost:8403", media, []string{"Origin: https://evil.example"}, 403},
		{"a fetch of another port", "localhost:8403", media, []string{"Origin: http://localhost:9999"}, 403},
		{"a fetch from a sandbox", "localhost:8403", media, []string{"Origin: null"}, 403},
		{"facts for a foreign page", "localhost:8403", api, []string{"Origin: https://evil.example"}, 403},
		{"a page that is allowed", "localhost:8403", media, []string{"Origin: https://good.example", "Sec-Fetch-Site: cross-site"}, 200},
		{"facts for a page that is allowed", "localhost:8403", api, []string{"Origin: https://good.example"}, 200},
		{"the allowed one over http", "localhost:8403", media, []string{"Origin: http://good.example"}, 403},

		{"an old browser, our page", "films.example", media, []string{mozilla, "Referer: http://films.example/"}, 200},
		{"an old browser, typed in", "films.example", page, []string{mozilla}, 200},
		{"an old browser, an image of who knows whom", "films.example", media, []string{mozilla}, 403},
		{"an old browser, an image of a foreign page", "films.example", media, []string{mozilla, "Referer: http://evil.example/films.example"}, 403},
		{"an old browser, facts for who knows whom", "films.example", api, []string{mozilla}, 403},
		{"an old browser, a page that is allowed", "films.example", media, []string{mozilla, "Origin: https://good.example"}, 200},

		{"our page stops", "localhost:8403", post, []string{"Origin: http://localhost:8403", "X-Htlcdash: 1"}, 200},
		{"a program stops", "localhost:8403", post, []string{"X-Htlcdash: 1"}, 200},
		{"a form of a foreign page", "localhost:8403", post, []string{"Origin: https://evil.example"}, 403},
		{"a form without the header", "localhost:8403", post, []string{"Origin: http://localhost:8403"}, 403},
		{"a page that may only read", "localhost:8403", post, []string{"Origin: https://good.example", "X-Htlcdash: 1"}, 403},
		{"a rebound name", "evil.example", post, []string{"X-Htlcdash: 1"}, 421},
	}
	title := titletest.Make(t, titletest.Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, title, func(t *testing.T, h *house) {
				r := request(http.MethodGet, test.path, test.headers...)
				if test.path == post {
					r = httptest.NewRequest(http.MethodPost, post, strings.NewReader(`{"title":"film"}`))
					r.Header = request("", "/", test.headers...).Header
				}
				r.Host = test.host
				w := h.do(r)
				want(t, "status", w.Code, test.want)
				if test.want != 200 && len(h.take()) > 0 {
					t.Error("money was spent")
				}
				good := r.Header.Get("Origin") == "https://good.example"
				if got := w.Header().Get("Access-Control-Allow-Origin"); (got != "") != good {
					t.Errorf("Access-Control-Allow-Origin: %q", got)
				}
				if got := w.Header().Get("Timing-Allow-Origin"); (got != "") != good {
					t.Errorf("Timing-Allow-Origin: %q", got)
				}
			}, func(c *proxy.Config, s *spender) {
				c.Hosts = []string{"films.example"}
				c.Origins = []string{"https://good.example"}
			})
		})
	}
}

func TestPreflight(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		w := h.do(request(http.MethodOptions, "/t/film/v0/1.m4s", "Origin: https://good.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Private-Network: true"))
		want(t, "status", w.Code, http.StatusNoContent)
		want(t, "origin", w.Header().Get("Access-Control-Allow-Origin"), "https://good.example")
		want(t, "private network", w.Header().Get("Access-Control-Allow-Private-Network"), "true")
		if strings.Contains(w.Header().Get("Access-Control-Allow-Methods"), "POST") || strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "X-Htlcdash") {
			t.Error("a foreign page may change something")
		}
		want(t, "a stranger", h.do(request(http.MethodOptions, "/api/stop", "Origin: https://evil.example")).Code, http.StatusForbidden)
		want(t, "another method", h.do(request(http.MethodDelete, "/t/film/v0/1.m4s")).Code, http.StatusMethodNotAllowed)
		want(t, "bought", len(h.take()), 0)
	}, func(c *proxy.Config, s *spender) { c.Origins = []string{"https://good.example"} })
}

func TestOriginsAreChecked(t *testing.T) {
	for _, o := range []string{"*", "example.org", "https://example.org/", "https://example.org/path", "null", "", "http://"} {
		if _, err := proxy.New(proxy.Config{Origins: []string{o}}); err == nil {
			t.Errorf("%q was taken for an origin", o)
		}
	}
}

func TestTooManyAtOnce(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		codes := make(chan int)
		for i := range 5 {
			go func() { codes <- h.get("/t/film/v0/" + string(rune('1'+i)) + ".m4s").Code }()
		}
		count := map[int]int{}
		for range 5 {
			count[<-codes]++
		}
		want(t, "served", count[200], 3)
		want(t, "told to come back", count[503], 2)
	}, func(c *proxy.Config, s *spender) { c.Requests = 3; s.delay = time.Second })
}

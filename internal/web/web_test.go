package web_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"htlcdash/internal/web"
)

func get(t *testing.T, page web.Page, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	web.Handler(page).ServeHTTP(w, r)
	return w
}

func TestPages(t *testing.T) {
	for _, page := range []web.Page{web.Viewer, web.Provider} {
		w := get(t, page, "/")
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %s", page, w.Code, w.Header().Get("Content-Type"))
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%s: no %q in %q", page, rule, policy)
			}
		}
		again := get(t, page, "/", "If-None-Match", w.Header().Get("ETag"))
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s: %d with its ETag", page, again.Code)
		}
		if page == web.Viewer && !web.Built() && !strings.Contains(w.Body.String(), "make web") {
			t.Error("the page does not say what is missing")
		}
	}
}

// An id names one element: scripts would fill the first of two only.
func TestIDsAreUnique(t *testing.T) {
	ids := regexp.MustCompile(`\sid="([^"]*)"`)
	for _, page := range []web.Page{web.Viewer, web.Provider} {
		seen := map[string]bool{}
		for _, m := range ids.FindAllStringSubmatch(get(t, page, "/").Body.String(), -1) {
			if seen[m[1]] {
				t.Errorf("%s: two elements are called %q", page, m[1])
			}
			seen[m[1]] = true
		}
		if len(seen) == 0 {
			t.Errorf("%s has no ids", page)
		}
	}
}

func TestAssets(t *testing.T) {
	for path, kind := range map[string]string{
		"/static/viewer.js":     "text/javascript; charset=utf-8",
		"/static/page.css":      "text/css; charset=utf-8",
		"/static/icon.svg":      "image/svg+xml",
		"/static/provider.html": "text/html; charset=utf-8",
	} {
		w := get(t, web.Viewer, path)
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	for _, path := range []string{"/static/", "/static/lib/", "/static/nothing.js", "/web.go", "/static/package.json"} {
		if w := get(t, web.Viewer, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// files gives our own files of a kind. What npm brought is not ours.
func files(t *testing.T, suffix string) map[string]string {
	t.Helper()
	all := map[string]string{}
	dir := os.DirFS("static")
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, suffix) || strings.HasPrefix(name, "lib/") {
			return err
		}
		b, err := fs.ReadFile(dir, name)
		all[name] = string(b)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s files: %v", suffix, err)
	}
	return all
}

// What the policy forbids would fail in the browser only: code and styles
// within the page, and other hosts.
func TestPagesKeepTheirPolicy(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(?:>|\s+[^>]*>[^<])|javascript:`)
	foreign := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	for name, text := range files(t, ".html") {
		if m := inline.FindString(text); m != "" {
			t.Errorf("%s: %q stands within the page", name, m)
		}
	}
	for _, suffix := range []string{".html", ".js", ".css"} {
		for name, text := range files(t, suffix) {
			if m := foreign.FindString(text); m != "" {
				t.Errorf("%s: speaks of another host, %s", name, m)
			}
			if strings.Contains(text, "innerHTML") || strings.Contains(text, "eval(") {
				t.Errorf("%s: makes markup or code of text", name)
			}
		}
	}
}

// Every id that a script asks for is in its page, and every file that a page
// or a script loads is there.
func TestPagesAreWhole(t *testing.T) {
	html, js := files(t, ".html"), files(t, ".js")
	for _, page := range []string{"viewer", "provider"} {
		for _, m := range regexp.MustCompile(`\$\('([\w-]+)'\)`).FindAllStringSubmatch(js[page+".js"], -1) {
			if !strings.Contains(html[page+".html"], `id="`+m[1]+`"`) {
				t.Errorf("%s.html has no %q", page, m[1])
			}
		}
	}
	for name, text := range html {
		for _, m := range regexp.MustCompile(`(?:src|href)="/static/([^"]+)"`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat("static/" + m[1]); err != nil && !strings.HasPrefix(m[1], "lib/") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, text := range js {
		for _, m := range regexp.MustCompile(`from '\./([^']+)'`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat("static/" + m[1]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The lock file names no registry.
func TestLockFileNamesNoRegistry(t *testing.T) {
	b, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), `"resolved"`) {
		t.Error("package-lock.json names where packages came from: run npm install in internal/web, which reads .npmrc")
	}
}

// Package web holds the two pages of the project, the viewer's and the
// provider's, with their scripts and styles, embedded in the binary. It knows
// nothing of money or media: the pages ask the JSON interfaces of the proxy
// and the seller that serve them.
//
// The libraries that the viewer's page loads are not committed. `make web`
// copies them to static/lib, by package-lock.json; without them the page says
// so in plain words.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var embedded embed.FS

// policy lets a page load only what this server gives, and lets nobody frame
// it. Media comes as blobs from the player's MediaSource.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Page names one of the pages.
type Page string

// The pages.
const (
	Viewer   Page = "viewer.html"
	Provider Page = "provider.html"
)

// needs is what must have been copied to static/lib before the viewer's page
// can play.
var needs = []string{"lib/dash.all.min.js", "lib/uPlot.iife.min.js", "lib/uPlot.min.css"}

type asset struct {
	body []byte
	kind string
	etag string
}

// Handler serves the page at "/" and what it loads under "/static/". It sets a
// strict Content-Security-Policy; the page makes no request to another host.
func Handler(page Page) http.Handler {
	assets := load()
	if page == Viewer && !Built() {
		page = "unbuilt.html"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, assets[string(page)]) })
	mux.HandleFunc("GET /static/{file...}", func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[r.PathValue("file")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		serve(w, r, a)
	})
	return mux
}

// Built reports whether the libraries are embedded, that is, whether `make web`
// ran before the binary was built.
func Built() bool {
	for _, name := range needs {
		if _, err := fs.Stat(embedded, "static/"+name); err != nil {
			return false
		}
	}
	return true
}

func load() map[string]asset {
	assets := map[string]asset{}
	err := fs.WalkDir(embedded, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		assets[strings.TrimPrefix(name, "static/")] = asset{
			body: body,
			kind: contentType(name),
			etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("web: " + err.Error()) // the files are in the binary
	}
	return assets
}

// contentType does not ask the operating system first, as package mime does:
// some have no entry for JavaScript, or a wrong one.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".txt":
		return "text/plain; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

func serve(w http.ResponseWriter, r *http.Request, a asset) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(a.body) // the client may be gone; nothing else to do
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title"
	"htlcdash/internal/web"
)

// Free space below which the doctor warns and fails.
const (
	littleSpace config.Bytes = 5 << 30
	noSpace     config.Bytes = 512 << 20
)

// checkPrograms looks for what publishing a film runs.
func (c doctorCommand) checkPrograms(ctx context.Context, r *report) {
	const install = "install ffmpeg, on Debian: apt-get install ffmpeg (a ready DASH folder needs none)"
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		out, err := exec.CommandContext(ctx, name, "-version").Output()
		if err != nil {
			r.bad(c.asks("publish"), name, "not found", install)
			continue
		}
		line, _, _ := strings.Cut(string(out), " Copyright")
		r.ok(name, "%s", line)
	}
	out, err := exec.CommandContext(ctx, "ffmpeg", "-hide_banner", "-encoders").Output()
	if err != nil {
		return // said above
	}
	for _, encoder := range []string{"libx264", "aac"} {
		if !strings.Contains(string(out), " "+encoder+" ") {
			r.bad(c.asks("publish"), "ffmpeg", "cannot encode with "+encoder, "install an ffmpeg that can, such as Debian's")
		}
	}
}

// checkTitles looks whether all that a title promises is there.
func (c doctorCommand) checkTitles(ctx context.Context, r *report) {
	folder := string(c.Titles.Folder)
	c.checkSpace(r, "titles", folder)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.fail("titles", err.Error(), "make the folder readable for this user")
		return
	}
	found := 0
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		found++
		check, dir := "title "+e.Name(), filepath.Join(folder, e.Name())
		segments, err := inspectTitle(ctx, dir)
		if err != nil {
			r.fail(check, err.Error(), "publish it again, with the same publisher's key")
			continue
		}
		r.ok(check, "%d segments, all sealed bytes and keys are there", segments)
	}
	if found == 0 && !c.resells() {
		r.bad(c.asks("serve"), "titles", "none in "+folder, "htlcdash publish film.mp4")
	}
}

// inspectTitle makes sure that the title in dir is signed, that its seal lists
// are what was signed, and that each segment's sealed bytes, by their length,
// and key are there. It returns the number of segments.
func inspectTitle(ctx context.Context, dir string) (segments int, err error) {
	t, err := title.OpenDir(dir)
	if err != nil {
		return 0, err
	}
	keys, err := title.LoadKeys(dir + ".keys")
	if err != nil {
		return 0, err
	}
	for _, rep := range t.Manifest.Representations() {
		if rep.Pay == nil {
			continue
		}
		list, err := t.Segments(ctx, rep.ID)
		if err != nil {
			return 0, err
		}
		for _, seg := range list {
			if _, err := keys.Key(ctx, seg); err != nil {
				return 0, err
			}
			if err := inspectSealed(dir, seg.SealedBlob()); err != nil {
				return 0, err
			}
		}
		segments += len(list)
	}
	return segments, nil
}

func inspectSealed(dir string, b htlcdash.Blob) error {
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(htlcdash.SealedPath(b.Root))))
	if err != nil {
		return fmt.Errorf("sealed bytes: %w", err)
	}
	if info.Size() != b.Length {
		return fmt.Errorf("sealed bytes %s: %d bytes, want %d", b.Root, info.Size(), b.Length)
	}
	return nil
}

func (c doctorCommand) checkProvider(ctx context.Context, r *report) {
	c.checkSecret(r)
	checkLedger(ctx, r, "provider's books", string(c.Serve.Ledger))
	checkPort(ctx, r, "provider's port", c.Serve.Listen, "/v1/provider", "serve.listen")
	if c.Serve.Page != "" {
		checkPort(ctx, r, "provider's page", c.Serve.Page, "/api/provider", "serve.page")
		checkLoopback(r, "provider's page", c.Serve.Page)
	}
}

func (c doctorCommand) checkSecret(r *report) {
	file := c.Serve.Secret
	if _, err := os.Stat(string(file)); errors.Is(err, fs.ErrNotExist) {
		r.ok("provider's secret", "made on first use in %s", file)
		return
	}
	if _, _, err := secretFile(file); err != nil {
		r.fail("provider's secret", err.Error(), "mend the file, or remove it: open offers are void then")
		return
	}
	r.ok("provider's secret", "%s", file)
}

func (c doctorCommand) checkViewer(ctx context.Context, r *report) {
	checkLedger(ctx, r, "viewer's books", string(c.Proxy.Ledger))
	c.checkSpace(r, "cache", string(c.Proxy.Cache))
	checkPort(ctx, r, "viewer's port", c.Proxy.Listen, "/api/titles", "proxy.listen")
	checkLoopback(r, "viewer's port", c.Proxy.Listen)
	if web.Built() {
		r.ok("viewer's page", "built")
	} else {
		r.bad(c.asks("proxy"), "viewer's page", "its libraries are not in this binary; other players work", "build with make")
	}
	if len(c.Proxy.Providers)+len(c.Proxy.Relays) == 0 {
		r.bad(c.asks("proxy"), "providers", "none", "name some in proxy.providers, or relays in proxy.relays")
	}
	for _, p := range c.Proxy.Providers {
		checkPeer(ctx, r, strings.TrimSuffix(p, "/"))
	}
}

// checkPeer asks a provider who it is, and its clock.
func checkPeer(ctx context.Context, r *report, provider string) {
	check := "provider " + provider
	date, err := dateOf(ctx, http.DefaultClient, provider+"/v1/provider")
	if err != nil {
		r.fail(check, err.Error(), "look whether the address is right and the provider runs")
		return
	}
	r.ok(check, "answers")
	checkClock(r, check+"'s clock", date)
}

// dateOf fetches url and returns the server's clock.
func dateOf(ctx context.Context, client *http.Client, url string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askNode)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return time.Time{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	return http.ParseTime(response.Header.Get("Date"))
}

// Clock skew that shortens an offer's life, and that makes invoices void.
const (
	someSkew = 10 * time.Second
	muchSkew = 2 * time.Minute
)

func checkClock(r *report, check string, theirs time.Time) {
	skew := time.Since(theirs).Abs().Round(time.Second)
	const next = "set the clock, on Debian: apt-get install systemd-timesyncd"
	switch {
	case skew > muchSkew:
		r.fail(check, fmt.Sprintf("differs from ours by %v", skew), next)
	case skew > someSkew:
		r.warn(check, fmt.Sprintf("differs from ours by %v", skew), next)
	default:
		r.ok(check, "agrees with ours")
	}
}

// checkPort tries to listen. If it cannot, it looks whether the one who does
// is this program.
func checkPort(ctx context.Context, r *report, check, address, path, key string) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
		r.ok(check, "%s is free", address)
		return
	}
	host, port, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		r.fail(check, err.Error(), "write "+key+" as host:port or :port")
		return
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if answers("http://"+net.JoinHostPort(host, port)+path)(ctx) == nil {
		r.ok(check, "%s is in use by htlcdash itself", address)
		return
	}
	r.fail(check, err.Error(), "stop the other program or choose another address in "+key)
}

// checkLoopback warns of a page without a password that others can reach.
func checkLoopback(r *report, check, address string) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return // checkPort has said it
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		r.warn(check, address+" can be reached by others, without a password", "listen on 127.0.0.1, or put a web proxy with a password before it")
	}
}

func checkLedger(ctx context.Context, r *report, check, path string) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		r.ok(check, "made on first use in %s", path)
		return
	}
	books, err := ledger.OpenReader(path)
	if err != nil {
		r.fail(check, err.Error(), "see the error, or bring back a copy")
		return
	}
	defer books.Close()
	if err := books.Check(ctx); err != nil {
		r.fail(check, err.Error(), "bring back a copy of "+path)
		return
	}
	r.ok(check, "%s is sound", path)
}

func (c doctorCommand) checkSpace(r *report, check, folder string) {
	free, err := freeSpace(existing(folder))
	const next = "make room, or choose a folder on another disk"
	switch {
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil:
		r.warn("disk of "+check, err.Error(), "")
	case free < noSpace:
		r.fail("disk of "+check, fmt.Sprintf("%.1f GB free at %s", gigabytes(free), folder), next)
	case free < littleSpace:
		r.warn("disk of "+check, fmt.Sprintf("%.1f GB free at %s", gigabytes(free), folder), next)
	default:
		r.ok("disk of "+check, "%.1f GB free at %s", gigabytes(free), folder)
	}
}

func gigabytes(n config.Bytes) float64 { return float64(n) / 1e9 }

// existing is the nearest folder above that exists.
func existing(folder string) string {
	for folder != filepath.Dir(folder) {
		if _, err := os.Stat(folder); err == nil {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	return folder
}

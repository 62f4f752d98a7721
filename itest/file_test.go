//go:build itest

package itest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/ledger"
)

// get runs the command that buys a file, with books of a name.
func (s *stage) get(t *testing.T, provider *process, name string, file htlcdash.Blob, env []string, flags ...string) (out string, err error) {
	t.Helper()
	node := s.network.Node("viewer")
	cmd := exec.CommandContext(t.Context(), program(t), append([]string{
		"get", provider.url, file.Root.String(), "--length", fmt.Sprint(file.Length), "-o", filepath.Join(s.dir, name+".part"),
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--proxy-macaroon", s.buying, "--proxy-ledger", s.books(name),
		"--proxy-complaints", filepath.Join(s.dir, "complaints"),
	}, flags...)...)
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// A file of which only the root is known is bought over a real channel, by
// hundreds of HTLCs; and after a crash between payment and file nothing is
// paid for twice.
func TestFileByTheChunk(t *testing.T) {
	s := newStage(t, filepath.Join(t.TempDir(), "none"))
	folder := t.TempDir()
	data := make([]byte, 24<<20+12345)
	for i := range data {
		data[i] = byte(i*i>>13) ^ byte(i)
	}
	if err := os.WriteFile(filepath.Join(folder, "film.mkv"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	provider := s.serve(t, freeAddress(t), "--files", folder, "--file-price", "4 sat")
	file := htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}
	if list := s.command(t, "files", provider.url); !strings.Contains(list, file.Root.String()) {
		t.Errorf("on sale: %s", list)
	}
	for _, step := range []string{"intent", "paid", "stored"} {
		out, err := s.get(t, provider, "viewer", file, []string{"HTLCDASH_CRASH_AT=" + step})
		var killed *exec.ExitError
		if !errors.As(err, &killed) || killed.ExitCode() != -1 {
			t.Fatalf("not killed at %q: %v\n%s", step, err, out)
		}
	}
	out, err := s.get(t, provider, "viewer", file, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "viewer.part")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("another file came, %v", err)
	}
	bought := purchases(t, s.books("viewer"))
	sum := spent(t, bought)
	if got := received(t, admin(t, s.network, "provider"), sum); sum != got || sum == 0 {
		t.Errorf("spent %v, the provider got %v", sum, got)
	}
	paid := map[int]int{}
	for _, p := range bought {
		if p.Settled.IsZero() || p.State.String() != "paid" {
			continue
		}
		paid[p.Index]++
	}
	if len(paid) != 97 { // of 256 KiB
		t.Errorf("%d chunks were paid for", len(paid))
	}
	for i, n := range paid {
		if n != 1 {
			t.Errorf("chunk %d was paid for %d times", i, n)
		}
	}
	books, err := ledger.OpenReader(s.books("viewer"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	if lost, err := books.Lost(t.Context(), nil); err != nil || lost != 0 {
		t.Errorf("%v are lost, %v", lost, err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// sellFiles runs a provider of a folder of files and returns the folder.
func (s *street) sellFiles(t *testing.T, args ...string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	data := make([]byte, 3*512<<10+1234)
	for i := range data {
		data[i] = byte(i * i >> 12)
	}
	if err := os.WriteFile(filepath.Join(folder, "film.mkv"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	public, operator := door(t), door(t)
	s.shop = "http://" + public.Addr().String()
	c := s.parse(t, append([]string{"serve", "--files", folder}, args...)...)
	s.open(t, func(ctx context.Context) error {
		return c.Serve.sell(ctx, public, operator, s.provider, s.provider.ID(), s.log)
	})
	return folder
}

func (s *street) getFile(t *testing.T, file htlcdash.Blob, out string, args ...string) (people string, err error) {
	t.Helper()
	c := s.parse(t, append([]string{"get", s.shop, file.Root.String(), "--length", fmt.Sprint(file.Length), "-o", out}, args...)...)
	var b bytes.Buffer
	err = c.Get.get(t.Context(), &b, s.viewer, file, s.log)
	return b.String(), err
}

func TestGetAFile(t *testing.T) {
	s := newStreet(t)
	folder := s.sellFiles(t)
	want, err := os.ReadFile(filepath.Join(folder, "film.mkv"))
	if err != nil {
		t.Fatal(err)
	}
	file := htlcdash.Blob{Root: htlcdash.RootOf(want), Length: int64(len(want))}
	for _, where := range []string{folder, s.shop} {
		list, _, err := call(t, "files", where)
		if err != nil || !strings.Contains(list, file.Root.String()) || !strings.Contains(list, fmt.Sprint(file.Length)) || !strings.Contains(list, "film.mkv") {
			t.Errorf("files %s: %q, %v", where, list, err)
		}
	}
	out := filepath.Join(t.TempDir(), "bought.mkv")
	if err := os.WriteFile(out, bytes.Repeat([]byte("old "), 500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	people, err := s.getFile(t, file, out)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another file came, %v", err)
	}
	if !strings.Contains(people, "4 sat") { // 3 chunks of 512 KiB and a small one
		t.Errorf("people are told %q", people)
	}
	s.network.Wait()
	before, err := s.viewer.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.getFile(t, file, out); err != nil { // all is there
		t.Error(err)
	}
	if after, _ := s.viewer.Balance(t.Context()); after.Outbound != before.Outbound {
		t.Error("paid again for what was there")
	}
	if _, err := s.getFile(t, file, out+"2", "--max-price", "1 sat"); err == nil || !strings.Contains(err.Error(), "ceiling") {
		t.Errorf("a price above the most: %v", err)
	}
	s.wantReceipts(t, 4)
}

// wantReceipts exports the receipts and looks whether they are what they say.
func (s *street) wantReceipts(t *testing.T, n int) {
	t.Helper()
	books := filepath.Join(s.folder, "viewer.db")
	if _, _, err := call(t, "ledger", "export", "receipts", "--proxy-ledger", books); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--out") {
		t.Errorf("receipts to the terminal: %v", err)
	}
	out := filepath.Join(t.TempDir(), "receipts.json")
	stdout, _, err := call(t, "ledger", "export", "receipts", "--proxy-ledger", books, "--out", out)
	if err != nil || stdout != "" {
		t.Fatalf("%q, %v", stdout, err)
	}
	if _, _, err := call(t, "ledger", "export", "receipts", "--proxy-ledger", books, "--out", out); err == nil {
		t.Error("an old file is written over")
	}
	info, err := os.Stat(out)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for lines := json.NewDecoder(bytes.NewReader(b)); ; seen++ {
		var r receipt
		if err := lines.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		promise, err := hex.DecodeString(r.Promise)
		if err != nil {
			t.Fatal(err)
		}
		p, err := exchange.ParseChunkPromise(promise)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := hex.DecodeString(r.Signature)
		if err != nil {
			t.Fatal(err)
		}
		preimage, err := lightning.ParsePreimage(r.Preimage)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(r.Key, [64]byte(sig)); err != nil || !preimage.Opens(p.Hash) || !r.Kept || r.Scheme != exchange.SchemeKeyed {
			t.Errorf("receipt %+v, %v", p, err)
		}
	}
	if seen != n {
		t.Errorf("%d receipts, want %d", seen, n)
	}
}

// A provider of files needs no title.
func TestServeOnlyFiles(t *testing.T) {
	s := newStreet(t)
	s.sellFiles(t, "--titles-folder", filepath.Join(t.TempDir(), "none"))
	list, _, err := call(t, "files", s.shop)
	if err != nil || !strings.Contains(list, "film.mkv") {
		t.Errorf("%q, %v", list, err)
	}
}

func TestVerifyFraud(t *testing.T) {
	b, err := os.ReadFile("../../spec/vectors/fraud.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Complaints []struct {
			Name, Complaint, Accused string
			Proven                   bool
		}
	}
	if err := json.Unmarshal(b, &v); err != nil || len(v.Complaints) < 5 {
		t.Fatalf("%d vectors, %v", len(v.Complaints), err)
	}
	file := filepath.Join(t.TempDir(), "complaint")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range v.Complaints {
		t.Run(c.Name, func(t *testing.T) {
			b, err := hex.DecodeString(c.Complaint)
			if err != nil {
				t.Fatal(err)
			}
			write(b)
			out, _, err := call(t, "verify-fraud", file)
			want := exitOK
			if !c.Proven {
				want = exitError
			}
			if exitCode(err) != want || c.Proven && !strings.Contains(out, c.Accused) {
				t.Errorf("exit code %d, want %d: %q, %v", exitCode(err), want, out, err)
			}
			if !c.Proven && (out != "" || err.Error() == "") {
				t.Errorf("not proven, and yet: %q", out)
			}
			write(b[:len(b)-1])
			if _, _, err := call(t, "verify-fraud", file); exitCode(err) != exitUsage {
				t.Errorf("cut off: exit code %d, %v", exitCode(err), err)
			}
		})
	}
	if _, _, err := call(t, "verify-fraud", file+"none"); exitCode(err) != exitUsage {
		t.Errorf("no such file: %v", err)
	}
	write([]byte("hello"))
	if _, _, err := call(t, "verify-fraud", file); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "htlcfoul") {
		t.Errorf("no complaint: %v", err)
	}
}

// A complaint is kept once, and privately.
func TestComplaintsAreKept(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "complaints")
	s := newStreet(t)
	c := s.parse(t, "proxy", "--complaints", folder)
	keep := complaintsIn(c.Proxy.Complaints)
	var names []string
	for range 2 {
		name, err := keep([]byte("complaint"))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	info, err := os.Stat(names[0])
	if err != nil || names[0] != names[1] || info.Mode().Perm() != 0o600 {
		t.Errorf("%v with mode %v, %v", names, info.Mode(), err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if complaintsIn("") != nil {
		t.Error("complaints are kept nowhere")
	}
}

// lie makes a publisher sign another root for a segment than that of what it
// sealed. The folder stays what it signed.
func lie(t *testing.T, made *titletest.Title, rep string, index int) {
	t.Helper()
	pays := map[string]dash.Pay{}
	for _, r := range made.Manifest.Representations() {
		pays[r.ID] = *r.Pay
	}
	pay := pays[rep]
	list := make(htlcdash.SealList, pay.Count)
	for i, seg := range made.Segments(t, rep) {
		list[i] = seg.Seal
	}
	list[index].Plain[0] ^= 1
	pay.ListRoot = list.Root()
	pays[rep] = pay
	mpd, err := made.Manifest.Extend(made.Publisher, dash.Places{}, pays)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := made.Key.Sign(htlcdash.IDOf(mpd))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{pay.List: list.Encode(), title.MPDFile: mpd, title.SignatureFile: sig.Encode()} {
		if err := os.WriteFile(filepath.Join(made.Dir, filepath.FromSlash(name)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if made.Title, err = title.OpenDir(made.Dir); err != nil {
		t.Fatal(err)
	}
}

// A publisher that sealed something else than it signed takes the price of one
// key, and has signed the proof of it.
func TestLyingPublisherIsAccused(t *testing.T) {
	film := titletest.Make(t, titletest.Options{})
	lie(t, film, "a0", 2)
	s := streetFor(t, film)
	s.sell(t)
	folder := filepath.Join(t.TempDir(), "complaints")
	s.play(t, "--complaints", folder)
	for _, r := range film.Manifest.Representations() {
		if r.ID != "a0" {
			continue
		}
		if code, _ := s.get(t, "/t/"+film.ID.String()+"/"+r.Segments[1].Path); code != http.StatusOK {
			t.Errorf("an honest segment: status %d", code)
		}
		if code, _ := s.get(t, "/t/"+film.ID.String()+"/"+r.Segments[2].Path); code == http.StatusOK {
			t.Error("the player gets what the publisher did not sign")
		}
	}
	found, err := filepath.Glob(filepath.Join(folder, "*.complaint"))
	if err != nil || len(found) != 1 {
		t.Fatalf("complaints %v, %v", found, err)
	}
	out, _, err := call(t, "verify-fraud", found[0])
	if err != nil || !strings.Contains(out, "publisher") || !strings.Contains(out, film.Publisher.String()) {
		t.Errorf("%q, %v", out, err)
	}
	if !strings.Contains(s.logged.String(), found[0]) {
		t.Error("the log does not name the file")
	}
}

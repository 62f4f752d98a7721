package seller_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
)

const mibPrice = 64 * lightning.Sat

// library is a folder of files on sale, and their bytes by name.
func library(t testing.TB) (folder string, data map[string][]byte) {
	t.Helper()
	folder = t.TempDir()
	data = map[string][]byte{}
	for name, size := range map[string]int{
		"small.txt": 5, "film.mkv": 5*256<<10 + 12345, "music/one.flac": 40 << 10, "music/.hidden": 9, ".git/config": 9, "empty": 0,
	} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i*i>>11) ^ name[0]
		}
		data[name] = b
		path := filepath.Join(folder, filepath.FromSlash(name))
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, b, 0o644))
	}
	return folder, data
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFiles(t testing.TB, change func(*seller.Config)) (s *shop, folder string, data map[string][]byte) {
	t.Helper()
	folder, data = library(t)
	s = open(t, func(c *seller.Config) {
		c.Files, c.FilePrice = folder, mibPrice
		if change != nil {
			change(c)
		}
	})
	return s, folder, data
}

func (s *shop) files(t testing.TB) map[string]exchange.FileInfo {
	t.Helper()
	l, err := exchange.ParseFileList(s.get(t, "/v1/files").body)
	check(t, err)
	if l.Provider != s.info(t).Key {
		t.Errorf("files of %s, want %s", l.Provider, s.info(t).Key)
	}
	found := map[string]exchange.FileInfo{}
	for _, f := range l.Files {
		found[f.Name] = f
	}
	return found
}

// chunks asks for chunks and reads what comes.
func (s *shop) chunks(t testing.TB, c credential.Credential, f exchange.FileInfo, indices ...int) (answer, []exchange.Chunk) {
	t.Helper()
	a := s.post(t, c, "/v1/chunks", exchange.ChunkRequest{Cut: f.Cut(), Indices: indices, Nonce: exchange.Nonce{7}})
	var got []exchange.Chunk
	for r := bytes.NewReader(a.body); a.StatusCode == http.StatusOK && r.Len() > 0; {
		c, err := exchange.ReadChunk(r, f.Cut(), indices[len(got)])
		if err != nil {
			break
		}
		got = append(got, c)
	}
	return a, got
}

func (s *shop) layer(t testing.TB, f exchange.FileInfo) []htlcdash.Root {
	t.Helper()
	layer, err := exchange.ParseLayer(s.get(t, "/v1/files/"+f.Root.String()+"/layer").body, f.Cut())
	check(t, err)
	return layer
}

func TestFilesOnSale(t *testing.T) {
	s, _, data := openFiles(t, nil)
	found := s.files(t)
	if len(found) != 3 {
		t.Errorf("on sale: %v", found)
	}
	for name, f := range found {
		if f.Root != htlcdash.RootOf(data[name]) || f.Length != int64(len(data[name])) || f.Price != mibPrice {
			t.Errorf("%s: %+v", name, f)
		}
		one, err := exchange.ParseFileList(s.get(t, "/v1/files/"+f.Root.String()).body)
		if err != nil || len(one.Files) != 1 || one.Files[0] != f {
			t.Errorf("%s alone: %+v, %v", name, one, err)
		}
		s.layer(t, f)
	}
	if n := found["film.mkv"].Leaves; n != 16 {
		t.Errorf("chunks of %d leaves", n)
	}
	for _, path := range []string{"/v1/files/" + strings.Repeat("ab", 32), "/v1/files/" + strings.Repeat("ab", 32) + "/layer"} {
		if a := s.get(t, path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	if a := s.get(t, "/v1/provider"); !bytes.Contains(a.body, []byte(`"keyed"`)) {
		t.Errorf("the provider does not say that it sells files: %s", a.body)
	}
}

// A provider of files only needs no title.
func TestOnlyFiles(t *testing.T) {
	s, _, _ := openFiles(t, func(c *seller.Config) { c.Titles = nil })
	if len(s.files(t)) != 3 {
		t.Error("the files are not on sale")
	}
}

func TestChunksFromOfferToBooks(t *testing.T) {
	s, _, data := openFiles(t, nil)
	f := s.files(t)["film.mkv"]
	layer, key := s.layer(t, f), s.info(t).Key
	a, got := s.chunks(t, s.guest(t), f, 0, 2, 5)
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" || len(got) != 3 {
		t.Fatalf("%s, %d chunks", a.Status, len(got))
	}
	for _, c := range got {
		offset, length := f.Cut().Span(c.Index)
		price := exchange.ChunkPrice(mibPrice, length)
		inv, err := exchange.Keyed{}.Check(c, exchange.ChunkTerms{
			Cut: f.Cut(), Index: c.Index, Root: layer[c.Index], Nonce: exchange.Nonce{7}, Provider: key, Ceiling: price,
		}, time.Now())
		check(t, err)
		paid, err := s.viewer.Pay(t.Context(), inv, 0)
		check(t, err)
		plain, err := exchange.Keyed{}.Open(c, paid.Preimage)
		if err != nil || !bytes.Equal(plain, data["film.mkv"][offset:offset+length]) {
			t.Errorf("chunk %d is another one, %v", c.Index, err)
		}
		if inv.Amount != price {
			t.Errorf("chunk %d for %v, want %v", c.Index, inv.Amount, price)
		}
	}
	report := s.settled(t, 3)
	if r := report.Recent[0]; r.Title != "film.mkv" || r.Representation != "chunks" || r.Scheme != exchange.SchemeKeyed {
		t.Errorf("in the books: %+v", r)
	}
	if want := 2*exchange.ChunkPrice(mibPrice, 256<<10) + exchange.ChunkPrice(mibPrice, 12345); report.Earned != want {
		t.Errorf("earned %v, want %v", report.Earned, want)
	}
}

func TestChunkRequestsAreRefused(t *testing.T) {
	s, _, _ := openFiles(t, nil)
	f := s.files(t)["film.mkv"]
	other := f
	other.Root[0]++
	longer := f
	longer.Length++
	finer := f
	finer.Leaves = 1
	for _, tt := range []struct {
		name    string
		file    exchange.FileInfo
		indices []int
		want    int
	}{
		{"another file", other, []int{0}, http.StatusNotFound},
		{"another length", longer, []int{0}, http.StatusNotFound},
		{"another cut", finer, []int{0}, http.StatusNotFound},
		{"no chunk", f, nil, http.StatusBadRequest},
		{"a chunk too far", f, []int{6}, http.StatusBadRequest},
		{"twice the same", f, []int{1, 1}, http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a, _ := s.chunks(t, s.guest(t), tt.file, tt.indices...); a.StatusCode != tt.want {
				t.Errorf("%s: %s", a.Status, a.body)
			}
		})
	}
	if a := s.do(t, http.MethodPost, "/v1/chunks", "{}"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger gets %s", a.Status)
	}
}

// What is sealed for one who does not pay is rationed, and paying earns more.
func TestUnpaidChunksAreRationed(t *testing.T) {
	s, _, _ := openFiles(t, func(c *seller.Config) { c.Rations.Bytes = 600 << 10 })
	f, guest := s.files(t)["film.mkv"], s.guest(t)
	a, got := s.chunks(t, guest, f, 0, 1)
	if len(got) != 2 {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	if a, _ := s.chunks(t, guest, f, 2); a.StatusCode != http.StatusTooManyRequests && a.StatusCode != http.StatusForbidden {
		t.Errorf("a third one that nobody paid for: %s", a.Status)
	}
	inv, err := lightning.DecodeInvoice(got[0].Invoice)
	check(t, err)
	_, err = s.viewer.Pay(t.Context(), inv, 0)
	check(t, err)
	s.settled(t, 1)
	if a, got := s.chunks(t, guest, f, 2); len(got) != 1 {
		t.Errorf("after a payment: %s: %s", a.Status, a.body)
	}
}

// A provider never signs what is not the file: it would accuse itself.
func TestChangedFileIsNotSold(t *testing.T) {
	s, folder, data := openFiles(t, nil)
	f, path := s.files(t)["film.mkv"], filepath.Join(folder, "film.mkv")
	changed := bytes.Clone(data["film.mkv"])
	changed[300<<10] ^= 1 // in chunk 1
	check(t, os.WriteFile(path, changed, 0o644))
	if a, got := s.chunks(t, s.guest(t), f, 0, 1, 2); a.StatusCode != http.StatusOK || len(got) != 1 {
		t.Errorf("%s, %d chunks of a file that has changed behind the first", a.Status, len(got))
	}
	if a, _ := s.chunks(t, s.guest(t), f, 1); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("a chunk that has changed: %s", a.Status)
	}
	if !strings.Contains(s.log.String(), "has changed since it was hashed") {
		t.Error("the log does not tell the operator")
	}
	check(t, s.Reload(t.Context()))
	if _, ok := s.files(t)["film.mkv"]; !ok || s.files(t)["film.mkv"].Root != htlcdash.RootOf(changed) {
		t.Error("after a reload the file is not what it is now")
	}
	if a, _ := s.chunks(t, s.guest(t), f, 0); a.StatusCode != http.StatusNotFound {
		t.Errorf("the file as it was: %s", a.Status)
	}
	check(t, os.Remove(path))
	check(t, s.Reload(t.Context()))
	if len(s.files(t)) != 2 {
		t.Error("a file that is gone is still on sale")
	}
}

func TestFilesNeedAPrice(t *testing.T) {
	folder, _ := library(t)
	_, err := seller.New(t.Context(), seller.Config{
		Files: folder, Payee: fakePayee{}, Secret: exchange.NewSecret([32]byte{1}), Books: open(t, nil).books,
	})
	if err == nil || !strings.Contains(err.Error(), "price") {
		t.Errorf("files for nothing: %v", err)
	}
	_, err = seller.New(t.Context(), seller.Config{
		Files: filepath.Join(folder, "none"), FilePrice: 1, Payee: fakePayee{}, Secret: exchange.NewSecret([32]byte{1}), Books: open(t, nil).books,
	})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such folder: %v", err)
	}
}

type fakePayee struct{ lightning.Payee }

package htlcdash_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

var update = flag.Bool("update", false, "write spec/vectors anew")

// checkVectors holds what the code says against the committed file.
func checkVectors(t *testing.T, name string, v any) {
	t.Helper()
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("spec", "vectors", name)
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the code does: look why, then run go test . -update", file)
	}
}

// patternNote tells another implementation what pattern makes.
const patternNote = "byte i of the data is i mod 251"

func TestRootVectors(t *testing.T) {
	type vector struct {
		Length int           `json:"length"`
		Root   htlcdash.Root `json:"root"`
	}
	v := struct {
		Spec    string   `json:"spec"`
		Data    string   `json:"data"`
		Vectors []vector `json:"vectors"`
	}{Spec: "spec/01-seal.md, roots (BEP 52)", Data: patternNote}
	for _, n := range []int{0, 1, 16383, 16384, 16385, 32768, 32769, 49152, 65536, 65541, 1 << 20, 1<<20 + 1} {
		v.Vectors = append(v.Vectors, vector{n, htlcdash.RootOf(pattern(n))})
	}
	checkVectors(t, "roots.json", v)
}

// A groupVector is segments that are sealed under one key.
type groupVector struct {
	Lengths []int           `json:"lengths"`
	Key     string          `json:"content_key"`
	Plain   []htlcdash.Root `json:"plain_roots"`
	Sealed  []htlcdash.Root `json:"sealed_roots"`
	List    string          `json:"seal_list"`
}

func makeGroup(t *testing.T) groupVector {
	v := groupVector{Lengths: []int{20_000, 16384, 1}}
	l, _, key := group(t, v.Lengths...)
	a := key.Reveal()
	v.Key, v.List = hex.EncodeToString(a[:]), hex.EncodeToString(l.Encode())
	for _, s := range l {
		v.Plain, v.Sealed = append(v.Plain, s.Plain), append(v.Sealed, s.Sealed)
	}
	return v
}

func TestSealVectors(t *testing.T) {
	type vector struct {
		Length       int           `json:"length"`
		Plain        htlcdash.Root `json:"plain_root"`
		Key          string        `json:"content_key"`
		KeyHash      string        `json:"key_hash"`
		KeyPoint     string        `json:"key_point"`
		CipherKey    string        `json:"cipher_key"`
		Sealed       htlcdash.Root `json:"sealed_root"`
		SealedLength int64         `json:"sealed_length"`
		SealedSHA256 string        `json:"sealed_sha256"`
		DurationMS   int64         `json:"duration_ms"`
		Price        int64         `json:"price_msat"`
		Quality      uint16        `json:"quality_hundredths_db"`
	}
	v := struct {
		Spec    string            `json:"spec"`
		Data    string            `json:"data"`
		Secret  string            `json:"seal_secret"`
		Vectors []vector          `json:"segments"`
		List    string            `json:"seal_list"`
		Root    htlcdash.ListRoot `json:"list_root"`
		Paths   [][]string        `json:"paths"` // of each record, lowest hash first
		Group   groupVector       `json:"group"`
		Refused map[string]string `json:"refused_seal_lists"`
	}{Spec: "spec/01-seal.md", Data: patternNote, Secret: hex.EncodeToString(secret[:]), Refused: map[string]string{}}
	var list htlcdash.SealList
	for i, n := range []int{1, 16384, 40_000} {
		sealed, s, key := htlcdash.SealSegment(secret[:], pattern(n))
		s.Duration, s.Price, s.Quality = time.Duration(2000+i)*time.Millisecond, lightning.Msat(1000+i), htlcdash.Decibel(1500+i)
		list = append(list, s)
		a, sum := key.Reveal(), sha256.Sum256(sealed)
		cipherKey := sha256.Sum256(append(append([]byte("htlcdash/cipher-key/v1"), a[:]...), s.Plain[:]...))
		v.Vectors = append(v.Vectors, vector{
			Length: n, Plain: s.Plain, Key: hex.EncodeToString(a[:]), KeyHash: hex.EncodeToString(s.KeyHash[:]),
			KeyPoint: hex.EncodeToString(s.KeyPoint[:]), CipherKey: hex.EncodeToString(cipherKey[:]),
			Sealed: s.Sealed, SealedLength: int64(len(sealed)), SealedSHA256: hex.EncodeToString(sum[:]),
			DurationMS: s.Duration.Milliseconds(), Price: int64(s.Price), Quality: uint16(s.Quality),
		})
	}
	v.List, v.Root = hex.EncodeToString(list.Encode()), list.Root()
	for i := range list {
		var path []string
		for _, h := range list.Path(i) {
			path = append(path, hex.EncodeToString(h[:]))
		}
		v.Paths = append(v.Paths, path)
	}
	v.Group = makeGroup(t)
	for name, spoil := range spoiledLists {
		v.Refused[name] = hex.EncodeToString(spoil(list[:1].Encode()))
	}
	dear, _, _ := group(t, 1, 2)
	dear[1].Price++
	v.Refused["group with two prices"] = hex.EncodeToString(dear.Encode())
	slow, _, _ := group(t, 1, 2)
	slow[0].Duration = htlcdash.MaxGroupTime
	v.Refused["group of more than a minute"] = hex.EncodeToString(slow.Encode())
	checkVectors(t, "seals.json", v)
}

func TestTitleVectors(t *testing.T) {
	const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>` + "\n"
	key, id := publisher(t), htlcdash.IDOf([]byte(mpd))
	sig, err := key.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	checkVectors(t, "title.json", struct {
		Spec       string               `json:"spec"`
		Secret     string               `json:"publisher_secret"`
		Publisher  htlcdash.PublisherID `json:"publisher"`
		SealSecret string               `json:"seal_secret"`
		MPD        string               `json:"mpd"`
		ID         htlcdash.TitleID     `json:"title_id"`
		Signature  string               `json:"signature_file"`
	}{
		"spec/02-title.md", hex.EncodeToString(secret[:]), key.ID(), hex.EncodeToString(key.SealSecret()),
		mpd, id, string(sig.Encode()),
	})
}

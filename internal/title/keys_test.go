package title_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
)

func someKeys() map[htlcdash.Root]htlcdash.Key {
	return map[htlcdash.Root]htlcdash.Key{
		{2}: htlcdash.NewKey([32]byte{0xbe, 0xef}),
		{1}: htlcdash.NewKey([32]byte{0xca, 0xfe}),
	}
}

func TestKeysRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "film.keys")
	if err := title.WriteKeys(file, someKeys()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	k, err := title.LoadKeys(file)
	if err != nil || k.Len() != 2 || !k.Holds(someKeys()) {
		t.Errorf("%v, %v", k, err)
	}
	first, _ := os.ReadFile(file)
	if err := title.WriteKeys(file, someKeys()); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(file); !bytes.Equal(first, second) {
		t.Error("the same keys gave other bytes")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestLoadKeysRefusesWhatOthersCanRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "film.keys")
	if err := title.WriteKeys(file, someKeys()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := title.LoadKeys(file)
		if !errors.Is(err, title.ErrExposed) || !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := title.LoadKeys(file + "x"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
}

func TestKeyIsCheckedAgainstTheSeal(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	seg := made.Segments(t, "v0")[0]
	if _, err := made.Keys.Key(t.Context(), htlcdash.Segment{}); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("no such segment: %v", err)
	}
	seg.KeyHash[0] ^= 1
	if _, err := made.Keys.Key(t.Context(), seg); !errors.Is(err, htlcdash.ErrCorrupt) {
		t.Errorf("another key hash: %v", err)
	}
}

func TestKeysNeverPrint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "film.keys")
	if err := title.WriteKeys(file, someKeys()); err != nil {
		t.Fatal(err)
	}
	k, err := title.LoadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "k", k)
	out := log.String() + fmt.Sprintf("%v %+v %s %#v %v", k, k, k, k, struct{ k *title.Keys }{k})
	for _, leak := range []string{"cafe", "beef", "202 254", "0xca", "190 239"} {
		if strings.Contains(out, leak) {
			t.Errorf("keys print themselves: %s", out)
		}
	}
}

func keyFile(t testing.TB) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "film.keys")
	if err := title.WriteKeys(file, someKeys()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseKeysRefuses(t *testing.T) {
	tests := map[string]func([]byte) []byte{
		"nothing":       func([]byte) []byte { return nil },
		"other magic":   func(b []byte) []byte { b[0] ^= 1; return b },
		"later version": func(b []byte) []byte { b[11] = 2; return b },
		"cut off":       func(b []byte) []byte { return b[:len(b)-1] },
		"trailing byte": func(b []byte) []byte { return append(b, 0) },
		"a lying count": func(b []byte) []byte { copy(b[12:], "\xff\xff\xff\xff"); return b },
		"out of order":  func(b []byte) []byte { b[16] = 3; return b },
		"one key twice": func(b []byte) []byte { copy(b[16+64:], b[16:16+32]); return b },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := title.ParseKeys(spoil(keyFile(t))); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
		})
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(keyFile(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := title.ParseKeys(b); err != nil && !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%v, want ErrFormat", err)
		}
	})
}

func TestKeyFileVector(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "spec", "vectors", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Keys []struct {
			Sealed htlcdash.Root `json:"sealed_root"`
			Key    string        `json:"content_key"`
		} `json:"keys"`
		File string `json:"key_file"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	keys := map[htlcdash.Root]htlcdash.Key{}
	for _, k := range v.Keys {
		a, err := hex.DecodeString(k.Key)
		if err != nil {
			t.Fatal(err)
		}
		keys[k.Sealed] = htlcdash.NewKey([32]byte(a))
	}
	file := filepath.Join(t.TempDir(), "x.keys")
	if err := title.WriteKeys(file, keys); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != v.File {
		t.Errorf("spec/vectors/keys.json says %s, the code %x", v.File, got)
	}
}

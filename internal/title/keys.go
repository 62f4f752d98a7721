package title

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"htlcdash"
)

// ErrExposed means that others on this machine can read a file of secrets.
var ErrExposed = errors.New("readable by others")

// The key file, spec/02-title.md: a header of 16 bytes, then records of 64
// bytes in ascending order of Q, all integers big-endian.
const (
	keysMagic  = "htlckeys"
	keysHeader = 16
	keyRecord  = 64
	maxKeys    = 16 * htlcdash.MaxSegments // of one title, all Representations
)

// Keys are the content keys of a title: what is sold, so they never print. The
// zero value holds none. Many goroutines may read them at once.
type Keys struct {
	bySealed map[htlcdash.Root]htlcdash.Key
}

func (k *Keys) String() string { return fmt.Sprintf("%d content keys", k.Len()) }

// LogValue keeps the keys out of logs.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Len returns the number of keys.
func (k *Keys) Len() int { return len(k.bySealed) }

// Key returns the key of seg. The error matches [htlcdash.ErrNotFound] if there
// is none, and [htlcdash.ErrCorrupt] if the one there does not open seg.
func (k *Keys) Key(_ context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	key, ok := k.bySealed[seg.Sealed]
	if !ok {
		return htlcdash.Key{}, fmt.Errorf("content key of %s: %w", seg.Sealed, htlcdash.ErrNotFound)
	}
	if !key.Opens(seg.Seal) {
		return htlcdash.Key{}, fmt.Errorf("content key of %s: %w", seg.Sealed, htlcdash.ErrCorrupt)
	}
	return key, nil
}

// LoadKeys reads a key file. It refuses a file that others on the machine can
// read (the error matches [ErrExposed]): its keys would be for sale and for
// free. Other errors match [htlcdash.ErrNotFound] or [htlcdash.ErrFormat].
func LoadKeys(file string) (*Keys, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file %s: %w", file, htlcdash.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, keysHeader+maxKeys*keyRecord+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	k, err := ParseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return k, nil
}

func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("key file has mode %#o: run \"chmod 600 %s\": %w", info.Mode().Perm(), f.Name(), ErrExposed)
	}
	return nil
}

// ParseKeys reads the bytes of a key file and nothing else. The error matches
// [htlcdash.ErrFormat].
func ParseKeys(b []byte) (*Keys, error) {
	if len(b) < keysHeader || !bytes.HasPrefix(b, []byte(keysMagic)) {
		return nil, fmt.Errorf("no header: %w", htlcdash.ErrFormat)
	}
	if version := binary.BigEndian.Uint32(b[8:]); version != 1 {
		return nil, fmt.Errorf("version %d, this program knows 1: %w", version, htlcdash.ErrFormat)
	}
	n := binary.BigEndian.Uint32(b[12:])
	b = b[keysHeader:]
	if n > maxKeys || len(b) != int(n)*keyRecord {
		return nil, fmt.Errorf("%d bytes for %d keys: %w", len(b), n, htlcdash.ErrFormat)
	}
	keys := make(map[htlcdash.Root]htlcdash.Key, n)
	var last htlcdash.Root
	for i := range int(n) {
		q, a := htlcdash.Root(b[:32]), [32]byte(b[32:64])
		if i > 0 && bytes.Compare(last[:], q[:]) >= 0 {
			return nil, fmt.Errorf("key %d is out of order: %w", i, htlcdash.ErrFormat)
		}
		keys[q], last, b = htlcdash.NewKey(a), q, b[keyRecord:]
	}
	return &Keys{keys}, nil
}

// encodeKeys gives the bytes of a key file. The same keys give the same bytes.
func encodeKeys(keys map[htlcdash.Root]htlcdash.Key) []byte {
	b := make([]byte, 0, keysHeader+len(keys)*keyRecord)
	b = append(b, keysMagic...)
	b = binary.BigEndian.AppendUint32(b, 1) // version
	b = binary.BigEndian.AppendUint32(b, uint32(len(keys)))
	order := slices.SortedFunc(maps.Keys(keys), func(x, y htlcdash.Root) int { return bytes.Compare(x[:], y[:]) })
	for _, q := range order {
		a := keys[q].Reveal()
		b = append(b, q[:]...)
		b = append(b, a[:]...)
	}
	return b
}

// WriteKeys writes a key file that only its owner can read. The file appears
// whole and durable, in place of one that was there, or not at all.
func WriteKeys(file string, keys map[htlcdash.Root]htlcdash.Key) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(encodeKeys(keys))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("key file %s: %w", file, err)
	}
	return nil
}

// With returns the keys in k and more together, for [WriteKeys].
func (k *Keys) With(more map[htlcdash.Root]htlcdash.Key) map[htlcdash.Root]htlcdash.Key {
	sum := make(map[htlcdash.Root]htlcdash.Key, len(more)+k.Len())
	maps.Copy(sum, k.bySealed)
	maps.Copy(sum, more)
	return sum
}

// Holds reports whether all of keys are in k.
func (k *Keys) Holds(keys map[htlcdash.Root]htlcdash.Key) bool {
	for q, want := range keys {
		have, ok := k.bySealed[q]
		if !ok || have.Reveal() != want.Reveal() {
			return false
		}
	}
	return true
}

package title_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"htlcdash"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
)

func TestOpenDirThenOpenEverySegment(t *testing.T) {
	made := titletest.Make(t, titletest.Options{Providers: []string{"https://provider.example"}})
	if made.ID != htlcdash.IDOf(made.MPD) || made.Publisher != made.Key.ID() {
		t.Errorf("title %s by %s", made.ID, made.Publisher)
	}
	for _, rep := range made.Manifest.Representations() {
		segs := made.Segments(t, rep.ID)
		if len(segs) != 5 {
			t.Fatalf("%s has %d segments", rep.ID, len(segs))
		}
		for i, seg := range segs {
			if seg.Title != made.ID || seg.Representation != rep.ID || seg.Index != i {
				t.Errorf("segment %d says %+v", i, seg)
			}
			key, err := made.Keys.Key(t.Context(), seg)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := seg.Open(key, made.Sealed(t, seg))
			if err != nil || !bytes.Equal(plain, made.Plain(rep.ID, i)) {
				t.Errorf("%s/%d: not what was published: %v", rep.ID, i, err)
			}
		}
		init, err := made.Init(t.Context(), rep.ID)
		if err != nil || len(init) != 700 {
			t.Errorf("%s: init segment of %d bytes: %v", rep.ID, len(init), err)
		}
	}
}

func TestPrices(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	if got := made.Dearest(); got != 3_000 {
		t.Errorf("dearest segment costs %v", got)
	}
	if got, err := made.Price("v0"); got != 5_000 || err != nil {
		t.Errorf("v0 costs %v, %v", got, err)
	}
	if _, err := made.Price("v9"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("v9: %v", err)
	}
	if low, high := made.Manifest.PriceRange(); low != 5*1_500 || high != 5*3_500 {
		t.Errorf("the title costs %v to %v", low, high)
	}
}

// A spoiled title is refused for its own reason, at the step that reads it.
func TestRefuses(t *testing.T) {
	other := titletest.Make(t, titletest.Options{Seed: 1})
	replace := func(name string, with func([]byte) []byte) func(string, []byte) ([]byte, error) {
		return func(path string, b []byte) ([]byte, error) {
			if path == name {
				return with(b), nil
			}
			return b, nil
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	longer := func(b []byte) []byte { return append(b, 0) }
	tests := []struct {
		name  string
		spoil func(path string, b []byte) ([]byte, error)
		want  error
	}{
		{"MPD flipped", replace("manifest.mpd", flip), htlcdash.ErrSignature},
		{"MPD cut", replace("manifest.mpd", cut), htlcdash.ErrSignature},
		{"MPD with a byte more", replace("manifest.mpd", longer), htlcdash.ErrSignature},
		{"MPD of another", replace("manifest.mpd", func([]byte) []byte { return other.MPD }), htlcdash.ErrSignature},
		{"MPD without end", replace("manifest.mpd", func([]byte) []byte { return make([]byte, title.MaxMPD+1) }), htlcdash.ErrFormat},
		{"signature of another", replace("manifest.mpd.sig", func([]byte) []byte { return other.Signature }), htlcdash.ErrSignature},
		{"signature cut", replace("manifest.mpd.sig", cut), htlcdash.ErrFormat},
		{"signature too long", replace("manifest.mpd.sig", func([]byte) []byte { return make([]byte, 1000) }), htlcdash.ErrFormat},
		{"seal list flipped", replace("seals/v0.seals", flip), htlcdash.ErrCorrupt},
		{"seal list cut", replace("seals/v0.seals", cut), htlcdash.ErrCorrupt},
		{"seal list too long", replace("seals/v0.seals", longer), htlcdash.ErrFormat},
		{"init flipped", replace("v0/init.mp4", flip), htlcdash.ErrCorrupt},
		{"init cut", replace("v0/init.mp4", cut), htlcdash.ErrCorrupt},
		{"init without end", replace("v0/init.mp4", func([]byte) []byte { return make([]byte, title.MaxInit+1) }), htlcdash.ErrFormat},
		{"no file", func(string, []byte) ([]byte, error) { return nil, htlcdash.ErrNotFound }, htlcdash.ErrNotFound},
		{"a list that is gone", func(path string, b []byte) ([]byte, error) {
			if strings.HasPrefix(path, "seals/") {
				return nil, htlcdash.ErrNotFound
			}
			return b, nil
		}, htlcdash.ErrNotFound},
	}
	made := titletest.Make(t, titletest.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := readAll(t.Context(), spoiled(made.Dir, tt.spoil)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// What one place does not give, or gives wrong, is asked for at the next.
func TestAnotherPlace(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	for _, tt := range []struct {
		name  string
		spoil func(b []byte) ([]byte, error)
	}{
		{"gone", func([]byte) ([]byte, error) { return nil, htlcdash.ErrNotFound }},
		{"broken", func([]byte) ([]byte, error) { return nil, errors.New("no") }},
		{"another", func(b []byte) ([]byte, error) { b[0] ^= 1; return b, nil }},
		{"empty", func([]byte) ([]byte, error) { return nil, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			film, err := title.Open(t.Context(), spoiled(made.Dir, func(path string, b []byte) ([]byte, error) {
				if strings.HasPrefix(path, title.MPDFile) {
					return b, nil
				}
				return tt.spoil(b)
			}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := film.Segments(t.Context(), "v0"); err == nil {
				t.Error("a list from nowhere")
			}
			film.Also(title.Dir(made.Dir))
			if segs, err := film.Segments(t.Context(), "v0"); err != nil || len(segs) != 5 {
				t.Errorf("%d segments, %v", len(segs), err)
			}
			if _, err := film.Init(t.Context(), "v0"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A title is all sealed and signed, or it is none: there is no plain or
// half-plain title to fall back to.
func TestNoDowngrade(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	pay := regexp.MustCompile(`(?s)<SupplementalProperty [^>]*schemeIdUri="urn:htlcdash[^>]*>.*?</SupplementalProperty>`)
	if len(pay.FindAll(made.MPD, -1)) < 3 {
		t.Fatal("the MPD looks otherwise than this test thinks")
	}
	sign := func(t *testing.T, mpd []byte, key htlcdash.PublisherKey) []byte {
		sig, err := key.Sign(htlcdash.IDOf(mpd))
		if err != nil {
			t.Fatal(err)
		}
		return sig.Encode()
	}
	thief, err := htlcdash.NewPublisherKey([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	without := func(which int) []byte {
		at := pay.FindAllIndex(made.MPD, -1)[which]
		return slices.Concat(made.MPD[:at[0]], made.MPD[at[1]:])
	}
	last := len(pay.FindAll(made.MPD, -1)) - 1
	for _, tt := range []struct {
		name string
		mpd  []byte
		key  htlcdash.PublisherKey
		sig  []byte // nil: a good one by key
		want error
		why  string
	}{
		{"all is well", made.MPD, made.Key, nil, nil, ""},
		{"no extension", pay.ReplaceAll(made.MPD, nil), made.Key, nil, htlcdash.ErrFormat, "names no publisher"},
		{"one Representation without it", without(last), made.Key, nil, htlcdash.ErrFormat, "at every Representation, or nowhere"},
		{"signed by another", made.MPD, thief, nil, htlcdash.ErrSignature, "signed by"},
		{"an empty signature", made.MPD, made.Key, []byte{}, htlcdash.ErrFormat, "title signature"},
		{"a signature of a version to come", made.MPD, made.Key, bytes.Replace(made.Signature, []byte("v1"), []byte("v0"), 1), htlcdash.ErrFormat, "title signature"},
		{"a signature over another title", made.MPD, made.Key, sign(t, without(last), made.Key), htlcdash.ErrSignature, "title " + made.ID.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.sig == nil {
				tt.sig = sign(t, tt.mpd, tt.key)
			}
			err := readAll(t.Context(), spoiled(made.Dir, func(path string, b []byte) ([]byte, error) {
				switch path {
				case title.MPDFile:
					return tt.mpd, nil
				case title.SignatureFile:
					return tt.sig, nil
				}
				return b, nil
			}))
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Errorf("got %v, want %v that says %q", err, tt.want, tt.why)
			}
		})
	}
}

// spoiled serves dir with some files changed, and never more than was asked for.
func spoiled(dir string, spoil func(path string, b []byte) ([]byte, error)) title.Fetch {
	return func(_ context.Context, path string, offset, limit int64) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		if b, err = spoil(path, b); err != nil {
			return nil, err
		}
		b = b[min(offset, int64(len(b))):]
		return b[:min(limit, int64(len(b)))], nil
	}
}

// readAll reads all that is signed of a title.
func readAll(ctx context.Context, fetch title.Fetch) error {
	t, err := title.Open(ctx, fetch)
	if err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		if _, err := t.Segments(ctx, rep.ID); err != nil {
			return err
		}
		if _, err := t.Init(ctx, rep.ID); err != nil {
			return err
		}
	}
	return nil
}

// A stranger who takes a signed title, names himself as its publisher and signs
// it, has made a title of his own; but he cannot sign another's.
func TestPublisherInMPDIsTheSigner(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	thief, err := htlcdash.NewPublisherKey([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := thief.Sign(made.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = title.Open(t.Context(), spoiled(made.Dir, func(path string, b []byte) ([]byte, error) {
		if path == title.SignatureFile {
			return sig.Encode(), nil
		}
		return b, nil
	}))
	if !errors.Is(err, htlcdash.ErrSignature) {
		t.Errorf("%v, want ErrSignature", err)
	}
}

func TestUnknownRepresentation(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	if _, err := made.Title.Segments(t.Context(), "v9"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("segments: %v", err)
	}
	if _, err := made.Init(t.Context(), "v9"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("init: %v", err)
	}
}

// Many callers at once cause one fetch, and one who leaves does not take the
// others with him.
func TestSegmentsJoinCallers(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	synctest.Test(t, func(t *testing.T) {
		fetches, release := 0, make(chan struct{})
		opened, err := title.Open(t.Context(), onList(made.Dir, func(ctx context.Context) error {
			fetches++
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		impatient, leave := context.WithCancel(t.Context())
		go func() {
			if _, err := opened.Segments(impatient, "v0"); !errors.Is(err, context.Canceled) {
				t.Errorf("who left got %v", err)
			}
		}()
		synctest.Wait()
		for range 8 {
			go func() {
				if segs, err := opened.Segments(t.Context(), "v0"); err != nil || len(segs) != 5 {
					t.Errorf("%d segments, %v", len(segs), err)
				}
			}()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(release)
		synctest.Wait()
		if _, err := opened.Segments(t.Context(), "v0"); err != nil || fetches != 1 {
			t.Errorf("%d fetches, %v", fetches, err)
		}
	})
}

func TestFailureIsNotKept(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	broken := errors.New("no route")
	answer := broken
	opened, err := title.Open(t.Context(), onList(made.Dir, func(context.Context) error { return answer }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Segments(t.Context(), "v1"); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	answer = nil
	if _, err := opened.Segments(t.Context(), "v1"); err != nil {
		t.Errorf("the failure was kept: %v", err)
	}
}

// onList serves dir, and calls hook before a seal list.
func onList(dir string, hook func(context.Context) error) title.Fetch {
	return func(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
		if strings.HasPrefix(path, "seals/") {
			if err := hook(ctx); err != nil {
				return nil, err
			}
		}
		return title.Dir(dir)(ctx, path, offset, limit)
	}
}

func TestDirNeverLeaves(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	if err := os.Symlink(made.KeysFile, filepath.Join(made.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../title.keys", "link", "/etc/passwd", "seals/../../title.keys"} {
		if b, err := title.Dir(made.Dir)(t.Context(), path, 0, 100); err == nil {
			t.Errorf("%s gave %d bytes", path, len(b))
		}
	}
}

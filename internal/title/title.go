// Package title opens a sealed title and trusts nothing that its publisher did
// not sign: the MPD, the init segments, the seal lists. It also keeps the
// private file of content keys that a publisher hands to its providers.
//
// It does not buy, open or play segments. The formats are told in
// spec/01-seal.md and spec/02-title.md.
package title

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/join"
	"htlcdash/lightning"
)

// Names in a title's folder, relative to it, besides htlcdash.SealedFolder.
const (
	MPDFile       = "manifest.mpd"
	SignatureFile = "manifest.mpd.sig"
	SealsDir      = "seals"    // seal lists
	TorrentsDir   = "torrents" // BitTorrent files
)

// TorrentFile names the file of a Representation's torrent, which lies beside
// the title if pay.InfoHash is not zero: it is called as the seal list is.
func TorrentFile(pay *dash.Pay) string {
	return TorrentsDir + "/" + strings.TrimSuffix(path.Base(pay.List), ".seals") + ".torrent"
}

// Bounds on what is fetched, in bytes. What is larger is refused unread.
const (
	MaxMPD       = 8 << 20
	MaxSignature = 256
	MaxInit      = 16 << 20 // an init segment, or the head of an on-demand file
	MaxInits     = 64 << 20 // all of them, since they are kept
)

// Fetch returns the bytes of a file of the title from offset on: limit of them,
// or fewer where the file ends before. The path is relative to the MPD, with
// slashes, and never escapes. The error matches [htlcdash.ErrNotFound] if there
// is no such file. Many goroutines may call it at once.
type Fetch func(ctx context.Context, path string, offset, limit int64) ([]byte, error)

// A Title is a title whose signature was verified. All methods may be called
// from many goroutines at once. The exported fields are not to be changed.
type Title struct {
	ID        htlcdash.TitleID
	Publisher htlcdash.PublisherID
	MPD       []byte // as signed, byte for byte
	Signature []byte // as published, see [htlcdash.ParseSignature]
	Manifest  *dash.Manifest

	reps  map[string]*dash.Representation
	lists shelf[[]htlcdash.Segment]
	inits shelf[[]byte]

	mu     sync.Mutex
	places []Fetch // tried in order
	heads  int     // bytes of init segments and heads that were taken

	patience time.Duration
}

// Open fetches and verifies a title: the signature over the MPD, that the MPD
// names the signer as its publisher, and the heads of on-demand files. Seal
// lists and other init segments are fetched when they are asked for.
//
// The error matches [htlcdash.ErrNotFound], [htlcdash.ErrSignature],
// [htlcdash.ErrFormat] or [htlcdash.ErrCorrupt], or is that of fetch.
func Open(ctx context.Context, fetch Fetch) (*Title, error) {
	t := &Title{places: []Fetch{fetch}, patience: firstPatience}
	var err error
	if t.MPD, err = fetch.whole(ctx, MPDFile, MaxMPD); err != nil {
		return nil, err
	}
	if t.Signature, err = fetch.whole(ctx, SignatureFile, MaxSignature); err != nil {
		return nil, err
	}
	if err := t.verify(); err != nil {
		return nil, err
	}
	if err := t.resolve(ctx, fetch); err != nil {
		return nil, err
	}
	return t, nil
}

// Also names another place that has the files of t. It is asked for what the
// places before it do not give, or give wrong.
func (t *Title) Also(fetch Fetch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places = append(t.places, fetch)
}

// How long a place may take while another could be asked: twice as long each
// time that all were too slow.
const (
	firstPatience = 2 * time.Second
	lastPatience  = time.Minute
)

// anywhere loads from one place after the other until one gives what the
// publisher signed. One that fails is asked last from then on, also if it was
// the caller who lost patience: players ask again, and must not meet the same
// silence each time.
func anywhere[V any](ctx context.Context, t *Title, load func(context.Context, Fetch) (V, error)) (v V, err error) {
	var failures []error
	for range t.count() {
		if v, err = loadFirst(ctx, t, load); err == nil {
			return v, nil
		}
		t.demote()
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, htlcdash.ErrNotFound) {
			failures = append(failures, err)
		}
	}
	t.wait()
	if ctx.Err() == nil && len(failures) > 0 {
		err = errors.Join(failures...)
	}
	return v, err
}

func loadFirst[V any](ctx context.Context, t *Title, load func(context.Context, Fetch) (V, error)) (V, error) {
	t.mu.Lock()
	first, others, patience := t.places[0], len(t.places) > 1, t.patience
	t.mu.Unlock()
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	return load(ctx, first)
}

func (t *Title) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.patience = min(2*t.patience, lastPatience)
}

func (t *Title) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.places)
}

// demote makes the first place the last.
func (t *Title) demote() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places = append(t.places[1:len(t.places):len(t.places)], t.places[0])
}

// OpenDir opens the title in the folder dir. Links that lead out of dir are
// not followed.
func OpenDir(dir string) (*Title, error) {
	t, err := Open(context.Background(), Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("title in %s: %w", dir, err)
	}
	return t, nil
}

// Dir fetches from the folder dir and never from outside it.
func Dir(dir string) Fetch {
	return func(_ context.Context, path string, offset, limit int64) ([]byte, error) {
		f, err := os.OpenInRoot(dir, filepath.FromSlash(path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, htlcdash.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.NewSectionReader(f, offset, limit))
	}
}

// whole fetches a file that has at most limit bytes.
func (fetch Fetch) whole(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := fetch(ctx, path, 0, limit+1)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, limit, htlcdash.ErrFormat)
	}
	return b, nil
}

// exactly fetches the bytes of r. A Length of 0 means the whole file.
func (fetch Fetch) exactly(ctx context.Context, r dash.Resource) ([]byte, error) {
	if r.Length == 0 {
		return fetch.whole(ctx, r.Path, MaxInit)
	}
	if r.Length > MaxInit {
		return nil, fmt.Errorf("%s: head of %d bytes: %w", r.Path, r.Length, htlcdash.ErrFormat)
	}
	b, err := fetch(ctx, r.Path, r.Offset, r.Length)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", r.Path, err)
	}
	if int64(len(b)) != r.Length {
		return nil, fmt.Errorf("%s has %d bytes at %d, want %d: %w", r.Path, len(b), r.Offset, r.Length, htlcdash.ErrCorrupt)
	}
	return b, nil
}

// verify checks the signature before anything of the MPD is believed.
func (t *Title) verify() error {
	sig, err := htlcdash.ParseSignature(t.Signature)
	if err != nil {
		return err
	}
	t.ID = htlcdash.IDOf(t.MPD)
	if err := sig.Verify(t.ID); err != nil {
		return err
	}
	if t.Manifest, err = dash.Parse(t.MPD); err != nil {
		return fmt.Errorf("%w: %w", htlcdash.ErrFormat, err)
	}
	named, ok := t.Manifest.Publisher()
	if !ok {
		return fmt.Errorf("the MPD names no publisher: not a sealed title: %w", htlcdash.ErrFormat)
	}
	if named != sig.Publisher {
		return fmt.Errorf("the MPD names publisher %s, signed by %s: %w", named, sig.Publisher, htlcdash.ErrSignature)
	}
	t.Publisher = named
	return nil
}

// resolve reads the heads of on-demand files for their sidx, then holds these
// same heads against their digests.
func (t *Title) resolve(ctx context.Context, fetch Fetch) error {
	heads := map[string][]byte{}
	err := t.Manifest.Resolve(ctx, func(ctx context.Context, path string, offset, length int64) ([]byte, error) {
		head, ok := heads[path]
		if !ok {
			var err error
			if head, err = fetch.whole(ctx, path, MaxInit); err != nil {
				return nil, err
			}
			heads[path] = head
			if err := t.room(len(head)); err != nil {
				return nil, err
			}
		}
		if offset < 0 || length < 0 || offset > int64(len(head)) || length > int64(len(head))-offset {
			return nil, fmt.Errorf("%s ends before byte %d: %w", path, offset+length, htlcdash.ErrCorrupt)
		}
		return head[offset : offset+length], nil
	})
	if err != nil {
		return err
	}
	t.reps = map[string]*dash.Representation{}
	for _, rep := range t.Manifest.Representations() {
		if err := t.admit(rep, heads[rep.Init.Path]); err != nil {
			return fmt.Errorf("representation %s: %w", rep.ID, err)
		}
	}
	return nil
}

func (t *Title) admit(rep *dash.Representation, head []byte) error {
	if rep.Pay == nil {
		return fmt.Errorf("is not sealed: %w", htlcdash.ErrFormat)
	}
	if t.reps[rep.ID] != nil {
		return fmt.Errorf("its id stands twice: %w", htlcdash.ErrFormat)
	}
	if rep.Pay.Count != len(rep.Segments) || rep.Pay.Count > htlcdash.MaxSegments {
		return fmt.Errorf("%d segments, %d seals: %w", len(rep.Segments), rep.Pay.Count, htlcdash.ErrFormat)
	}
	t.reps[rep.ID] = rep
	if head == nil || rep.Init.Length == 0 {
		return nil
	}
	if int64(len(head)) < rep.Init.Offset+rep.Init.Length {
		return fmt.Errorf("%s is cut off: %w", rep.Init.Path, htlcdash.ErrCorrupt)
	}
	init := head[rep.Init.Offset:][:rep.Init.Length]
	t.inits.keep(rep.ID, init)
	return checkDigest(rep.Init.Path, init, rep.Pay.InitDigest)
}

func checkDigest(path string, b []byte, want [32]byte) error {
	if sha256.Sum256(b) != want {
		return fmt.Errorf("%s has not the digest that the publisher signed: %w", path, htlcdash.ErrCorrupt)
	}
	return nil
}

// representation returns the Representation with that id. The error matches
// [htlcdash.ErrNotFound].
func (t *Title) representation(id string) (*dash.Representation, error) {
	if rep := t.reps[id]; rep != nil {
		return rep, nil
	}
	return nil, fmt.Errorf("representation %q: %w", id, htlcdash.ErrNotFound)
}

// Segments returns the segments of a Representation in presentation order. The
// seal list is fetched once and kept; callers at the same time share the fetch,
// which ends when all of them have gone. A failure is not kept. The slice is not to be changed.
//
// The error matches [htlcdash.ErrNotFound] if there is no such Representation
// or list, [htlcdash.ErrCorrupt] if the list is not the signed one, and
// [htlcdash.ErrFormat] if the publisher signed nonsense.
func (t *Title) Segments(ctx context.Context, rep string) ([]htlcdash.Segment, error) {
	r, err := t.representation(rep)
	if err != nil {
		return nil, err
	}
	return t.lists.get(ctx, r, t.loadSegments)
}

// Loaded returns what [Title.Segments] does if the seal list is here, and does
// not wait.
func (t *Title) Loaded(rep string) ([]htlcdash.Segment, bool) { return t.lists.have(rep) }

// Holds reports whether b is the sealed bytes of a segment of which the seal
// list is here already. It fetches nothing.
func (t *Title) Holds(b htlcdash.Blob) bool {
	for _, segs := range t.lists.all() {
		for _, s := range segs {
			if s.Sealed == b.Root && s.SealedBlob() == b {
				return true
			}
		}
	}
	return false
}

// Init returns the init segment of a Representation, or the head of its
// on-demand file, with the digest checked. It is kept as in [Title.Segments],
// and fails as that does.
func (t *Title) Init(ctx context.Context, rep string) ([]byte, error) {
	r, err := t.representation(rep)
	if err != nil {
		return nil, err
	}
	return t.inits.get(ctx, r, t.loadInit)
}

// A shelf keeps what was fetched once.
type shelf[V any] struct {
	join join.Group[string, V]
	mu   sync.Mutex
	kept map[string]V
}

func (s *shelf[V]) have(id string) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.kept[id]
	return v, ok
}

// all returns what is kept, in no order.
func (s *shelf[V]) all() (out []V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.kept {
		out = append(out, v)
	}
	return out
}

func (s *shelf[V]) keep(id string, v V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]V{}
	}
	s.kept[id] = v
}

// get returns what is kept for rep, and loads it first if need be.
func (s *shelf[V]) get(ctx context.Context, rep *dash.Representation, load func(context.Context, *dash.Representation) (V, error)) (V, error) {
	if v, ok := s.have(rep.ID); ok {
		return v, nil
	}
	return s.join.Do(ctx, rep.ID, func(ctx context.Context) (V, error) {
		v, err := load(ctx, rep)
		if err != nil {
			return v, fmt.Errorf("representation %s: %w", rep.ID, err)
		}
		s.keep(rep.ID, v)
		return v, nil
	})
}

func (t *Title) loadInit(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	if rep.Init.Path == "" {
		return nil, fmt.Errorf("init segment: %w", htlcdash.ErrNotFound)
	}
	return anywhere(ctx, t, func(ctx context.Context, fetch Fetch) ([]byte, error) {
		b, err := fetch.exactly(ctx, rep.Init)
		if err != nil {
			return nil, err
		}
		if err := checkDigest(rep.Init.Path, b, rep.Pay.InitDigest); err != nil {
			return nil, err
		}
		return b, t.room(len(b))
	})
}

// room takes some of what heads may have in all.
func (t *Title) room(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heads+n > MaxInits {
		return fmt.Errorf("init segments and heads of more than %d MiB: %w", MaxInits>>20, htlcdash.ErrFormat)
	}
	t.heads += n
	return nil
}

func (t *Title) loadSegments(ctx context.Context, rep *dash.Representation) ([]htlcdash.Segment, error) {
	b, err := anywhere(ctx, t, func(ctx context.Context, fetch Fetch) ([]byte, error) {
		b, err := fetch.whole(ctx, rep.Pay.List, htlcdash.SealListLength(rep.Pay.Count))
		if err != nil {
			return nil, err
		}
		if root, err := htlcdash.SealListRoot(b); err != nil || root != rep.Pay.ListRoot {
			return nil, fmt.Errorf("%s has not the root that the publisher signed: %w", rep.Pay.List, htlcdash.ErrCorrupt)
		}
		return b, nil
	})
	if err != nil {
		return nil, err
	}
	list, err := htlcdash.ParseSealList(b)
	if err != nil {
		return nil, err
	}
	if err := agrees(list, rep.Pay); err != nil {
		return nil, err
	}
	segs := make([]htlcdash.Segment, len(list))
	for g := range list.Groups() {
		for i := g.First; i < g.First+g.Count; i++ {
			segs[i] = htlcdash.Segment{Title: t.ID, Representation: rep.ID, Index: i, Group: g, Seal: list[i]}
		}
	}
	return segs, nil
}

// agrees holds the list against the sums in the MPD, which budgets rely on
// before the list is there.
func agrees(list htlcdash.SealList, pay *dash.Pay) error {
	total, dearest := list.Sum()
	if len(list) != pay.Count || total != pay.Total || dearest != pay.Max {
		return fmt.Errorf("seal list has %d segments for %v, the dearest key %v; the MPD says %d for %v, %v: %w",
			len(list), total, dearest, pay.Count, pay.Total, pay.Max, htlcdash.ErrFormat)
	}
	return nil
}

// Dearest returns the price of the title's dearest key, which bounds what a
// viewer has at risk with one provider.
func (t *Title) Dearest() (dearest lightning.Msat) {
	for _, rep := range t.reps {
		dearest = max(dearest, rep.Pay.Max)
	}
	return dearest
}

// Price returns what all keys of a Representation cost together. The error
// matches [htlcdash.ErrNotFound] if there is none.
func (t *Title) Price(rep string) (lightning.Msat, error) {
	r, err := t.representation(rep)
	if err != nil {
		return 0, err
	}
	return r.Pay.Total, nil
}

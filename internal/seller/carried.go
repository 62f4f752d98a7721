package seller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
)

// Sealed gives sealed bytes that do not lie in a title's folder, checked against
// their name, as source.Library does. The bytes are not changed.
type Sealed interface {
	Get(ctx context.Context, b htlcdash.Blob) ([]byte, error)
	// Has reports by nil that Get would probably succeed, without fetching.
	Has(ctx context.Context, b htlcdash.Blob) error
}

const (
	// carriedMemory bounds the sealed bytes from elsewhere that are on their way
	// to viewers.
	carriedMemory = 256 << 20
	// surveyors is how many sealed files are asked for at once, when it is found
	// out which are to be had.
	surveyors = 8
)

// local returns the sealed bytes of b as a file of the title's folder. The error
// matches [htlcdash.ErrNotFound] or [htlcdash.ErrCorrupt] if they are not there
// whole.
func (t *sealedTitle) local(ctx context.Context, b htlcdash.Blob) (io.ReadSeekCloser, error) {
	f, err := t.files.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	return f.(io.ReadSeekCloser), nil // an *os.File
}

// elsewhere reports whether the sealed bytes of t that a look at its folder has
// not found may be had from its sources.
func (t *sealedTitle) elsewhere(err error) bool {
	return t.carried && (errors.Is(err, htlcdash.ErrNotFound) || errors.Is(err, htlcdash.ErrCorrupt))
}

// serveCarried sends sealed bytes from wherever they are.
func (s *Seller) serveCarried(w http.ResponseWriter, r *http.Request, b htlcdash.Blob) error {
	if r.Method == http.MethodHead {
		if err := s.config.Sealed.Has(r.Context(), b); err != nil {
			return carriedError(b, err)
		}
		http.ServeContent(w, r, "", time.Time{}, &part{total: b.Length})
		return nil
	}
	data, done, err := s.carry(r.Context(), b)
	if err != nil {
		return err
	}
	defer done()
	patience(w, b.Length)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return nil
}

// carry fetches sealed bytes, which count against carriedMemory until done is
// called.
func (s *Seller) carry(ctx context.Context, b htlcdash.Blob) (data []byte, done func(), err error) {
	if err := s.carrying.Acquire(ctx, b.Length); err != nil {
		return nil, nil, err
	}
	data, err = s.config.Sealed.Get(ctx, b)
	if err != nil {
		s.carrying.Release(b.Length)
		return nil, nil, carriedError(b, err)
	}
	return data, func() { s.carrying.Release(b.Length) }, nil
}

// carriedError makes of any fault of a source that the bytes are not to be had
// here: a viewer then asks another provider. What failed is the operator's
// business, and in the log.
func carriedError(b htlcdash.Blob, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("sealed bytes %s: %w", b.Root, htlcdash.ErrNotFound)
}

// surveyed asks, after each load, which of the sealed bytes that are not in the
// folders no source has, until ctx is done.
func (s *Seller) surveyed(ctx context.Context) {
	for {
		select {
		case <-s.loaded:
			for _, t := range s.shelf.Load().byName {
				s.survey(ctx, t)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *Seller) survey(ctx context.Context, t *sealedTitle) {
	if len(t.absent) == 0 {
		return
	}
	var group errgroup.Group
	group.SetLimit(surveyors)
	var lost atomic.Int64
	for _, seg := range t.absent {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := s.config.Sealed.Has(ctx, seg.SealedBlob()); err != nil {
				lost.Add(1)
			}
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return
	}
	t.lost.Store(lost.Load())
	if n := lost.Load(); n > 0 {
		s.log.Warn("no source has the sealed bytes of some segments", "title", t.name, "segments", n)
	}
}

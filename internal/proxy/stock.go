package proxy

import (
	"context"
	"sync"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/plain"
	"htlcdash/internal/title"
)

// stock is where the pieces of one title come from. Both kinds, bought and
// free, go through the same code from here on, so that what payment adds can
// be measured.
type stock interface {
	// head returns what a decoder needs before the first segment. It is free.
	head(ctx context.Context, rep *dash.Representation) ([]byte, error)
	// segment returns one segment, whole and verified. It may cost money.
	segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error)
	// length returns the length of a segment in bytes and costs nothing; 0 if
	// it is not known before the segment is here.
	length(ctx context.Context, rep *dash.Representation, index int) (int64, error)
	// seals returns what the publisher says of all segments; nil for what is
	// free. They are not changed.
	seals(ctx context.Context, rep *dash.Representation) ([]htlcdash.Segment, error)
	// prepare asks for offers for pieces, so that buying them needs no round
	// trip but the payment. It spends nothing.
	prepare(ctx context.Context, pieces []piece)
	// ready does more for a few pieces: it has the offers proved, too. It returns
	// when they are, or could not be.
	ready(ctx context.Context, pieces []piece)
	// ladder returns what the agent may buy, with sound in a language; nil for
	// what is free.
	ladder(ctx context.Context, language string) (*title.Ladder, error)
	// download fetches the sealed bytes of a segment, and spends nothing.
	download(ctx context.Context, rep *dash.Representation, index int) error
}

// sealed is the stock of a sealed title: its keys are bought.
type sealed struct {
	title *title.Title
	buyer Buyer
}

func (s sealed) head(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	return s.title.Init(ctx, rep.ID)
}

func (s sealed) segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error) {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return nil, err
	}
	return s.buyer.Segment(ctx, seg)
}

func (s sealed) seal(ctx context.Context, rep *dash.Representation, index int) (htlcdash.Segment, error) {
	segs, err := s.title.Segments(ctx, rep.ID)
	if err != nil {
		return htlcdash.Segment{}, err
	}
	return segs[index], nil // title checked that there are as many as in the MPD
}

func (s sealed) length(ctx context.Context, rep *dash.Representation, index int) (int64, error) {
	seg, err := s.seal(ctx, rep, index)
	return seg.Length, err
}

func (s sealed) seals(ctx context.Context, rep *dash.Representation) ([]htlcdash.Segment, error) {
	return s.title.Segments(ctx, rep.ID)
}

func (s sealed) ladder(ctx context.Context, language string) (*title.Ladder, error) {
	return s.title.Ladder(ctx, language)
}

func (s sealed) prepare(ctx context.Context, pieces []piece) {
	var segs []htlcdash.Segment
	for _, p := range pieces {
		if seg, err := s.seal(ctx, p.rep, p.index); err == nil {
			segs = append(segs, seg)
		}
	}
	s.buyer.Prepare(ctx, segs)
}

func (s sealed) ready(ctx context.Context, pieces []piece) {
	var work sync.WaitGroup
	for _, p := range pieces {
		work.Go(func() {
			if seg, err := s.seal(ctx, p.rep, p.index); err == nil {
				_ = s.buyer.Ready(ctx, seg) // else it is asked for when it is bought
			}
		})
	}
	work.Wait()
}

func (s sealed) download(ctx context.Context, rep *dash.Representation, index int) error {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return err
	}
	return s.buyer.Download(ctx, seg)
}

// open is the stock of a plain title on a web server. Nothing is paid.
type open struct{ *plain.Title }

func (o open) head(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	return o.Init(ctx, rep)
}

func (o open) segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error) {
	return o.Fetch(ctx, rep.Segments[index].Resource, nil)
}

func (o open) length(_ context.Context, rep *dash.Representation, index int) (int64, error) {
	return rep.Segments[index].Length, nil
}

func (open) seals(context.Context, *dash.Representation) ([]htlcdash.Segment, error) { return nil, nil }

func (open) ladder(context.Context, string) (*title.Ladder, error)     { return nil, nil }
func (open) prepare(context.Context, []piece)                          {}
func (open) ready(context.Context, []piece)                            {}
func (open) download(context.Context, *dash.Representation, int) error { return nil }

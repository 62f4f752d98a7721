package player

import (
	"context"
	"errors"
	"fmt"

	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/internal/plain"
)

// Open is the stock of a plain title: nothing is paid.
type Open struct{ *plain.Title }

var _ Stock = Open{}

// Init fetches an initialization segment, or the head of an on-demand file.
func (o Open) Init(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	if rep.Init.Path == "" {
		return nil, nil
	}
	return o.Title.Init(ctx, rep)
}

// Download fetches a segment. The error matches [ErrStopped] if that is sold.
func (o Open) Download(ctx context.Context, rep *dash.Representation, index int, came func(n int)) ([]byte, error) {
	data, err := o.Fetch(ctx, rep.Segments[index].Resource, came)
	if errors.Is(err, plain.ErrPaid) {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return data, err
}

// Open has nothing to do.
func (Open) Open(_ context.Context, _ *dash.Representation, _ int, data []byte) ([]byte, error) {
	return data, nil
}

// Ready has nothing to do.
func (Open) Ready(context.Context, *dash.Representation, int) {}

// Prepare has nothing to do.
func (Open) Prepare(context.Context, *dash.Representation, []int) {}

// Money is no concern.
func (Open) Money() Money { return Money{Left: agent.NoLimit} }

// Stop has nothing to do.
func (Open) Stop() {}

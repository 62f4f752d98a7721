package publish

import (
	"context"

	"htlcdash"
)

type ladder struct{}

func (w *work) encode(ctx context.Context, media string) (*ladder, error) {
	return nil, ErrSource
}

func (w *work) measure(ctx context.Context, b *book, l *ladder) (map[string][]htlcdash.Decibel, error) {
	return nil, nil
}

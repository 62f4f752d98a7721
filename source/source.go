// Package source finds bytes by their name.
//
// A [Source] is a place that may hold blobs: a folder, a web store, a swarm. It
// is trusted with nothing. A [Library] is what the rest of the program uses: it
// asks its sources in turn, checks what they give against root and length, asks
// once for what many want, and keeps what it got.
//
// Sealed segments are public and immutable, so any copy serves. What opens them
// is sold elsewhere (package buyer). The layout of files and URLs is that of
// spec/02-title.md.
package source

import (
	"context"
	"io"

	"htlcdash"
)

// A Source may hold blobs. Implementations need not check the bytes, cache
// them or join requests: [Library] does. Package sourcetest holds the suite
// that each passes.
type Source interface {
	// Open returns the bytes of b, from the first to the last, or an error
	// that matches htlcdash.ErrNotFound if they are not to be had here. It may
	// be called from many goroutines at once. Both Open and Read return soon
	// after ctx is done. The caller closes the reader, perhaps before its end.
	Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error)
}

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
	"errors"
	"io"
	"path"
	"strings"

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

// A Prober is a source that can tell whether it has a blob without sending it.
type Prober interface {
	// Has returns nil if Open would begin to give the bytes of b, or else what
	// Open would return. It sends and reads a few hundred bytes at most.
	Has(ctx context.Context, b htlcdash.Blob) error
}

// A Store is a place to which files of a title can be written, by the paths of
// spec/02-title.md. Package sourcetest holds the suite that each passes. Its
// methods may be called from many goroutines at once.
type Store interface {
	// Stat tells what lies at path. The error matches htlcdash.ErrNotFound if
	// nothing does.
	Stat(ctx context.Context, path string) (Info, error)
	// Get returns the bytes at path. A file of more than limit bytes is an error
	// that matches htlcdash.ErrCorrupt, and what there is of it is not read.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
	// Put writes data at path, whole or not at all. Without replace an error that
	// matches [ErrExists] says that something lies there already; it stays as it
	// is, also if two writers come at once. After another error the file may be
	// there or not.
	Put(ctx context.Context, path string, data []byte, replace bool) error
}

// Info is what a [Store] tells of a file.
type Info struct {
	Length int64
	MD5    string // hexadecimal; empty: the store does not tell
}

// Errors of stores.
var (
	// ErrExists means that a file is there already.
	ErrExists = errors.New("already there")
	// ErrRefused means that a store does not let us, however often it is asked.
	ErrRefused = errors.New("refused")
)

// ContentType is the media type of a file of a title, by its path, for stores
// that keep one.
func ContentType(file string) string {
	switch strings.ToLower(path.Ext(file)) {
	case ".mpd":
		return "application/dash+xml"
	case ".sig":
		return "text/plain; charset=utf-8"
	case ".mp4", ".m4s", ".m4v", ".m4a":
		return "video/mp4"
	}
	return "application/octet-stream"
}

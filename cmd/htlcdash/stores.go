package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash/internal/config"
	"htlcdash/internal/spread"
	"htlcdash/internal/title"
	"htlcdash/source"
	"htlcdash/source/gaia"
	"htlcdash/source/open"
	"htlcdash/source/s3"
)

// openConfig turns [stores] into what addresses of stores are opened with.
// Secrets are read when an address needs them.
func openConfig(c config.Stores) open.Config {
	return open.Config{
		S3Endpoint: c.S3Endpoint,
		S3Region:   c.S3Region,
		S3Credentials: func() (*credentials.Credentials, error) {
			return s3.Credentials(string(c.S3Credentials), c.S3Profile)
		},
		GaiaKey: func() ([32]byte, error) {
			secret, _, err := secretFile(c.GaiaKey)
			return secret, err
		},
	}
}

// isTitleDir reports whether folder holds a title that is published.
func isTitleDir(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, title.SignatureFile))
	return err == nil
}

// published finds a title that was published before: its folder, or its name in
// the titles' folder.
func (c publishCommand) published() (folder string, ok bool) {
	if isTitleDir(c.Source) {
		return c.Source, true
	}
	named := filepath.Join(string(c.Titles.Folder), c.Source)
	if _, err := os.Stat(c.Source); errors.Is(err, fs.ErrNotExist) && c.Source == filepath.Base(c.Source) && isTitleDir(named) {
		return named, true
	}
	return "", false
}

// A destination is where a title goes, besides the titles' folder.
type destination struct {
	address string
	store   source.Store
}

// destinations opens what --to names, before any work is done.
func (c publishCommand) destinations() ([]destination, error) {
	var out []destination
	for _, address := range c.To {
		s, err := open.Store(address, openConfig(c.Stores))
		if err != nil {
			return nil, usageError{fmt.Errorf("--to: %w", err)}
		}
		out = append(out, destination{address, s})
	}
	return out, nil
}

// spread copies the title in folder to each destination in turn.
func (c publishCommand) spread(ctx context.Context, t terminal, folder string, to []destination) error {
	for _, d := range to {
		p := newProgress(t.err)
		p.begin(fmt.Sprintf("copying to %v", d.store))
		result, err := spread.Run(ctx, folder, d.store, spread.Options{Replace: c.Force, Progress: func(now spread.Progress) {
			p.at("%3.0f %%, %d of %d files, %.1f MB", 100*float64(now.Bytes)/float64(max(now.AllBytes, 1)), now.Files, now.AllFiles, float64(now.AllBytes)/1e6)
		}})
		if err != nil {
			p.fail()
			return fmt.Errorf("%w\nwhat is there stays: the same command goes on from it", err)
		}
		p.end(fmt.Sprintf("%d files sent (%.1f MB), %d were there, %d read back", result.Sent, float64(result.Bytes)/1e6, result.Kept, result.Checked))
		if err := d.invite(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// invite says by which address others find what was copied.
func (d destination) invite(ctx context.Context, t terminal) error {
	address := fmt.Sprint(d.store)
	if hub, ok := d.store.(*gaia.Place); ok {
		var err error
		if address, err = hub.ReadURL(ctx); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(t.out, "copied to\t%s\n", address)
	return err
}

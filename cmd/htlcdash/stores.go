package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/internal/config"
	"htlcdash/internal/dash"
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

// swarms is for --to what needs no store: who seeds needs only the torrents that
// lie in the title's folder.
const swarms = "torrent"

// printMagnets checks the torrents of the title in folder, and prints a link to
// each.
func printMagnets(t terminal, folder string) error {
	film, err := title.OpenDir(folder)
	if err != nil {
		return err
	}
	found := 0
	for _, rep := range film.Manifest.Representations() {
		if rep.Pay.InfoHash == [32]byte{} {
			continue
		}
		file := filepath.Join(folder, filepath.FromSlash(title.TorrentFile(rep.Pay)))
		info, err := torrentInfo(film, rep, file)
		if err != nil {
			return fmt.Errorf("%s: %w: publish the film again", file, err)
		}
		found++
		fmt.Fprintf(t.out, "torrent\t%s\t%s\nmagnet\t%s\n", rep.ID, file, bittorrent.Magnet(info))
	}
	if found == 0 {
		return errors.New("--to torrent: the title names no torrents: publish the film again")
	}
	_, err = fmt.Fprintln(t.out, "to seed them: htlcdash serve --seed :6881")
	return err
}

// torrentInfo reads a torrent and holds it against what the publisher signed.
func torrentInfo(film *title.Title, rep *dash.Representation, file string) ([]byte, error) {
	segs, err := film.Segments(context.Background(), rep.ID)
	if err != nil {
		return nil, err
	}
	blobs := make([]htlcdash.Blob, len(segs))
	for i, seg := range segs {
		blobs[i] = seg.SealedBlob()
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	info, _, err := bittorrent.Parse(b, blobs)
	if err == nil && bittorrent.InfoHashOf(info) != rep.Pay.InfoHash {
		err = htlcdash.ErrCorrupt
	}
	return info, err
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
		if address == swarms {
			out = append(out, destination{address: swarms})
			continue
		}
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
		if d.address == swarms {
			if err := printMagnets(t, folder); err != nil {
				return err
			}
			continue
		}
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/internal/config"
	"htlcdash/internal/title"
	"htlcdash/source/dir"
	"htlcdash/source/torrent"
)

// openSwarms returns a viewer's end of BitTorrent swarms, or nil if the viewer
// wants none. Who has business in a local network finds peers there.
func openSwarms(c config.ProxyBuying, local bool, log *slog.Logger) (*torrent.Client, error) {
	if !c.Torrents && len(c.TorrentPeers)+len(c.TorrentTrackers) == 0 && c.TorrentListen == "" {
		return nil, nil
	}
	log.Info("joining BitTorrent swarms: their members see your address, and what you watch")
	o := torrent.Options{
		Listen: c.TorrentListen, Peers: c.TorrentPeers, Trackers: c.TorrentTrackers, Log: log,
		Local: local || anyLocal(slices.Concat(c.TorrentTrackers, asURLs(c.TorrentPeers))...),
	}
	if o.Listen != "" && c.Cache != "" {
		if err := os.MkdirAll(string(c.Cache), 0o700); err != nil {
			return nil, err
		}
		cache, err := dir.New(string(c.Cache))
		if err != nil {
			return nil, err
		}
		o.Held = cache
	}
	return torrent.New(o)
}

// torrentsOf lists the torrents of a title, one for each Representation, and peers
// who may have them.
func torrentsOf(t *title.Title, peers ...string) (out []torrent.Torrent) {
	for _, rep := range t.Manifest.Representations() {
		out = append(out, torrent.Torrent{InfoHash: rep.Pay.InfoHash, Peers: peers, Blobs: func() ([]htlcdash.Blob, bool) {
			segs, ok := t.Loaded(rep.ID)
			blobs := make([]htlcdash.Blob, len(segs))
			for i, s := range segs {
				blobs[i] = s.SealedBlob()
			}
			return blobs, ok
		}})
	}
	return out
}

// seed gives away the sealed bytes of the titles in folders.
func seed(ctx context.Context, c *torrent.Client, folders []string, log *slog.Logger) error {
	var failures []error
	for _, folder := range folders {
		mpds, err := filepath.Glob(filepath.Join(folder, "*", title.MPDFile))
		if err != nil {
			return err
		}
		for _, mpd := range append(mpds, filepath.Join(folder, title.MPDFile)) {
			if _, err := os.Stat(mpd); err == nil {
				failures = append(failures, seedTitle(ctx, c, filepath.Dir(mpd), log))
			}
		}
	}
	torrents, segments := c.Seeding()
	log.Info("seeding", "listen", c.Addr().String(), "torrents", torrents, "segments", segments)
	return errors.Join(failures...)
}

func seedTitle(ctx context.Context, c *torrent.Client, folder string, log *slog.Logger) error {
	t, err := title.OpenDir(folder)
	if err != nil {
		return err
	}
	torrents := torrentsOf(t)
	for i, rep := range t.Manifest.Representations() {
		if rep.Pay.InfoHash == [32]byte{} {
			log.Warn("not seeded: the title has no torrent of it; publish it again", "title", folder, "representation", rep.ID)
			continue
		}
		if _, err := t.Segments(ctx, rep.ID); err != nil {
			return err
		}
		file, err := title.Dir(folder)(ctx, title.TorrentFile(rep.Pay), 0, bittorrent.MaxFile)
		if err == nil {
			err = c.Seed(torrents[i], file, inFolder(folder))
		}
		if err != nil {
			return fmt.Errorf("seed %s of %s: %w", rep.ID, folder, err)
		}
	}
	return nil
}

// inFolder is the sealed bytes in the folder of that name. Other than dir.Dir it
// looks the folder up each time: publishing again puts another in its place.
type inFolder string

func (f inFolder) File(q htlcdash.Root) (*os.File, error) {
	file, err := os.OpenInRoot(string(f), filepath.FromSlash(htlcdash.SealedPath(q)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sealed bytes %s: %w", q, htlcdash.ErrNotFound)
	}
	return file, err
}

package torrent

import (
	"fmt"
	"slices"

	"htlcdash"
	"htlcdash/internal/bittorrent"
)

// Seed gives away what files hold of a torrent, now and until Close, to all who
// are in its swarm. The file is the one that lies beside the title
// (spec/12-torrent.md); the blobs of t must be known. What files lack is not
// fetched. Once it is seeded, a torrent is not seeded anew.
//
// The error matches htlcdash.ErrFormat or htlcdash.ErrCorrupt if file is not the
// torrent that t names.
func (c *Client) Seed(t Torrent, file []byte, files Files) error {
	blobs, ok := t.Blobs()
	if !ok || len(blobs) == 0 {
		return fmt.Errorf("torrent %x: its segments are not known: %w", t.InfoHash, htlcdash.ErrNotFound)
	}
	info, layers, err := bittorrent.Parse(file, blobs)
	if err != nil {
		return err
	}
	if bittorrent.InfoHashOf(info) != t.InfoHash {
		return fmt.Errorf("torrent file: not the one of infohash %x: %w", t.InfoHash, htlcdash.ErrCorrupt)
	}
	if err := c.Add(t); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index()
	s := c.known[t.InfoHash]
	if s.files != nil {
		return nil
	}
	if s.run != nil {
		s.leave()
	}
	s.info, s.files, s.layers = slices.Clone(info), files, layers
	_, err = s.join()
	return err
}

// Seeding is how many torrents are seeded, and how many of their segments are
// here.
func (c *Client) Seeding() (torrents, segments int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.known {
		if s.files == nil || s.run == nil {
			continue
		}
		torrents++
		for i := range s.blobs {
			if s.run.store.holds(i) {
				segments++
			}
		}
	}
	return torrents, segments
}

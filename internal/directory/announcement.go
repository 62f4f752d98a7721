// Package directory tells who sells a title, without a central server.
// Providers announce what they sell by signed events, and carry each other's;
// viewers ask several of them at once.
//
//	provider A: Announcer -> Relay <- Federation -> Relay of B, C, public relays
//	viewer: Directory.Find(title) -> GET /v1/announcements of several relays
//	                              -> GET /v1/provider of each address: is it of the key that signed?
//
// An announcement says who sells, where, and about for how much. Nothing in it
// is believed for money: the title is what its id says, the binding price is the
// signed quote, and who answers slowly is measured (agent/market).
//
// It does not hide which titles a viewer looks for from the relays that it asks.
// The format is spec/13-directory.md.
package directory

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"htlcdash"
	"htlcdash/internal/nostr"
	"htlcdash/internal/reach"
	"htlcdash/lightning"
)

// Kind is the kind of announcements: addressable, by provider and title.
const Kind = 38402

// Bounds of an announcement.
const (
	MaxLife      = 24 * time.Hour   // from when it was made to its end
	MaxAhead     = 10 * time.Minute // that a clock may be before ours
	MaxAddresses = 8
	MaxSources   = 16 // addresses of bytes, and as many infohashes
	MaxSeeds     = 4  // BitTorrent clients

	maxAddress = 512 // bytes of an address
	maxName    = 255 // bytes
)

// PPM is a factor of 1.
const PPM = 1_000_000

// An Announcement says that a provider sells a title. All of it is the
// provider's claim.
type Announcement struct {
	Provider  htlcdash.ProviderID
	Title     htlcdash.TitleID
	At        time.Time // when it was made, whole seconds
	Expires   time.Time // whole seconds, at most MaxLife after At
	Addresses []string  // of the provider, http or https, the preferred first; none: the title is sold no more

	Publisher htlcdash.PublisherID
	Name      string // of the title in the provider's paths
	Label     string // what the title is called, for people; may be empty

	// The class of price. A key costs Factor millionths of what the publisher
	// asks, and a MiB of sealed bytes PerMiB.
	Factor int64
	PerMiB lightning.Msat

	// Where sealed bytes lie too, as far as the provider knows.
	Sources    []string // URLs
	Infohashes []string // of torrents: 40 or 64 lower-case hexadecimal digits
	Seeds      []string // BitTorrent clients that have these: host:port
}

// Withdrawn reports whether the provider sells the title no more.
func (a Announcement) Withdrawn() bool { return len(a.Addresses) == 0 }

// Sign makes the event of a, whose Provider is set by key.
func (a Announcement) Sign(key htlcdash.ProviderKey) (nostr.Event, error) {
	a.Provider = key.ID()
	if err := a.check(); err != nil {
		return nostr.Event{}, err
	}
	return nostr.Sign(nostr.Event{CreatedAt: a.At.Unix(), Kind: Kind, Tags: a.tags()}, key)
}

func (a Announcement) tags() []nostr.Tag {
	tags := []nostr.Tag{{"d", a.Title.String()}, {"expiration", strconv.FormatInt(a.Expires.Unix(), 10)}}
	if a.Withdrawn() {
		return tags
	}
	tags = append(tags,
		nostr.Tag{"p", a.Publisher.String()},
		nostr.Tag{"name", a.Name},
		nostr.Tag{"price", strconv.FormatInt(a.Factor, 10), strconv.FormatInt(int64(a.PerMiB), 10)})
	if a.Label != "" {
		tags = append(tags, nostr.Tag{"title", a.Label})
	}
	for name, list := range a.lists() {
		for _, v := range list {
			tags = append(tags, nostr.Tag{name, v})
		}
	}
	return tags
}

// lists are the tags that may stand several times, in their order.
func (a Announcement) lists() func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		_ = yield("r", a.Addresses) && yield("source", a.Sources) && yield("x", a.Infohashes) && yield("seed", a.Seeds)
	}
}

// Read reads the announcement in an event, which is sound. The error matches
// [htlcdash.ErrFormat].
func Read(e nostr.Event) (a Announcement, err error) {
	if e.Kind != Kind {
		return a, fmt.Errorf("event of kind %d is no announcement: %w", e.Kind, htlcdash.ErrFormat)
	}
	a = Announcement{Provider: htlcdash.ProviderID(e.PubKey), At: e.Time()}
	d, _ := e.Value("d")
	if a.Title, err = htlcdash.ParseTitleID(d); err != nil || d != a.Title.String() {
		return Announcement{}, fmt.Errorf("announcement: tag d is no title id: %w", htlcdash.ErrFormat)
	}
	a.Expires, _ = e.Expires()
	a.Addresses = e.Values("r")
	if !a.Withdrawn() {
		if err := a.readTerms(e); err != nil {
			return Announcement{}, err
		}
	}
	return a, a.check()
}

// readTerms reads what a withdrawal lacks.
func (a *Announcement) readTerms(e nostr.Event) (err error) {
	p, _ := e.Value("p")
	if a.Publisher, err = htlcdash.ParsePublisherID(p); err != nil {
		return err
	}
	a.Name, _ = e.Value("name")
	a.Label, _ = e.Value("title")
	a.Sources, a.Infohashes, a.Seeds = e.Values("source"), e.Values("x"), e.Values("seed")
	i := slices.IndexFunc(e.Tags, func(t nostr.Tag) bool { return t[0] == "price" && len(t) > 2 })
	if i < 0 {
		return fmt.Errorf("announcement without a price: %w", htlcdash.ErrFormat)
	}
	factor, err := strconv.ParseInt(e.Tags[i][1], 10, 64)
	perMiB, err2 := strconv.ParseInt(e.Tags[i][2], 10, 64)
	if err != nil || err2 != nil {
		return fmt.Errorf("announcement: price is no number: %w", htlcdash.ErrFormat)
	}
	a.Factor, a.PerMiB = factor, lightning.Msat(perMiB)
	return nil
}

// check checks the bounds.
func (a Announcement) check() error {
	switch {
	case a.Expires.Before(a.At) || a.Expires.Sub(a.At) > MaxLife:
		return fmt.Errorf("announcement: it must end within %v: %w", MaxLife, htlcdash.ErrFormat)
	case a.Withdrawn():
		return nil
	case a.Name == "" || len(a.Name) > maxName || strings.Contains(a.Name, "/") || a.Name == "." || a.Name == "..":
		return fmt.Errorf("announcement: the title's name cannot stand in a path: %w", htlcdash.ErrFormat)
	case len(a.Label) > maxName || !utf8.ValidString(a.Label):
		return fmt.Errorf("announcement: what the title is called is longer than %d bytes: %w", maxName, htlcdash.ErrFormat)
	case a.Factor < 0 || a.Factor > math.MaxInt32 || a.PerMiB < 0 || a.PerMiB > htlcdash.MaxPrice:
		return fmt.Errorf("announcement: price out of bounds: %w", htlcdash.ErrFormat)
	case len(a.Addresses) > MaxAddresses || len(a.Sources) > MaxSources || len(a.Infohashes) > MaxSources || len(a.Seeds) > MaxSeeds:
		return fmt.Errorf("announcement: too many addresses: %w", htlcdash.ErrFormat)
	}
	for _, s := range slices.Concat(a.Addresses, a.Sources) {
		if _, err := ParseAddress(s); err != nil {
			return err
		}
	}
	for _, s := range a.Infohashes {
		if len(s) != 40 && len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
			return fmt.Errorf("announcement: infohash %.80q: %w", s, htlcdash.ErrFormat)
		}
	}
	for _, s := range a.Seeds {
		if err := reach.CheckHostPort(s); err != nil {
			return fmt.Errorf("announcement: seed: %w: %w", err, htlcdash.ErrFormat)
		}
	}
	return nil
}

// Label is s as a Label may be: without what cannot stand in an event, and cut.
func Label(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	for len(s) > maxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// ParseAddress checks an address of a provider: an http or https URL without
// user, query and fragment, of at most 512 bytes. The error matches
// [htlcdash.ErrFormat].
func ParseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxAddress || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(s, "/") {
		return nil, fmt.Errorf("address %.80q: want http(s)://host[:port][/path], without a slash at the end: %w", s, htlcdash.ErrFormat)
	}
	return u, nil
}

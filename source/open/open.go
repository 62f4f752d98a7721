// Package open makes sources and stores of the addresses that people write:
//
//	https://films.example/one            any web store: source only
//	s3://bucket/prefix                   a bucket; ?endpoint=URL and ?region=NAME if not the configured ones
//	gaia://hub.example/ADDRESS/path      a bucket at a Gaia hub; gaia+http:// for one on this machine
//	gaia://hub.example/path              the same, of one's own key: store only
//	/folder, dir:folder                  a folder on this machine
//
// A place holds one title, as its folder does, or the sealed bytes of many.
package open

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/gaia"
	"htlcdash/source/s3"
	"htlcdash/source/web"
)

// A Config is what addresses do not say. No error of this package quotes a
// secret, nor an address that may hold one.
type Config struct {
	S3Endpoint string // URL; empty: that of Amazon
	S3Region   string // empty: the endpoint is asked
	// S3Credentials give what signs requests, or nil; called when first needed.
	S3Credentials func() (*credentials.Credentials, error)
	// GaiaKey gives the secret key that writes at Gaia hubs; called when first
	// needed.
	GaiaKey func() ([32]byte, error)
}

// An Address is one that people wrote, taken apart.
type Address struct {
	Kind Kind
	URL  string // of the web store, the S3 endpoint (empty: the configured one) or the hub

	Bucket string // S3
	Region string // S3; empty: the configured one
	Owner  string // Gaia: address of the bucket; empty: that of one's own key
	Path   string // below the bucket, or of the folder
}

// Kind is a way in which sealed bytes are kept.
type Kind int

// The kinds of places. The zero Kind is none.
const (
	Web Kind = iota + 1
	S3
	Gaia
	Dir
)

// maxAddress bounds an address, in bytes.
const maxAddress = 2048

// Parse takes an address apart. The error matches htlcdash.ErrFormat.
func Parse(s string) (Address, error) {
	if len(s) > maxAddress || strings.ContainsAny(s, "\x00\r\n") || s == "" {
		return Address{}, fmt.Errorf("address of a store: want at most %d bytes on one line: %w", maxAddress, htlcdash.ErrFormat)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if rest, ok := strings.CutPrefix(s, "dir:"); ok {
			return folder(rest)
		}
		return folder(s)
	}
	if scheme == "file" {
		return folder(rest)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return Address{}, fmt.Errorf("address %s://...: want a host, or a bucket, behind it: %w", clip(scheme), htlcdash.ErrFormat)
	case u.User != nil:
		return Address{}, fmt.Errorf("address at %.100q: it must hold no user and no password: %w", u.Host, htlcdash.ErrFormat)
	case u.Fragment != "":
		return Address{}, fmt.Errorf("address at %.100q: it must have no fragment (#): %w", u.Host, htlcdash.ErrFormat)
	}
	switch scheme {
	case "http", "https":
		return Address{Kind: Web, URL: s}, nil
	case "s3":
		return bucket(u)
	case "gaia", "gaia+https":
		return hub(u, "https")
	case "gaia+http":
		return hub(u, "http")
	}
	return Address{}, fmt.Errorf("address %s://...: want https://, s3://, gaia:// or a folder: %w", clip(scheme), htlcdash.ErrFormat)
}

func clip(s string) string { return fmt.Sprintf("%.20q", s) }

func folder(path string) (Address, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return Address{}, err
		}
		path = filepath.Join(home, rest)
	}
	if path == "" {
		return Address{}, fmt.Errorf("address of a folder: it has no name: %w", htlcdash.ErrFormat)
	}
	return Address{Kind: Dir, Path: path}, nil
}

func bucket(u *url.URL) (Address, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, fmt.Errorf("s3://%s: its query is malformed: %w", u.Host, htlcdash.ErrFormat)
	}
	for name := range q {
		if name != "endpoint" && name != "region" {
			return Address{}, fmt.Errorf("s3://%s: it may say ?endpoint= and &region=, not %s: %w", u.Host, clip(name), htlcdash.ErrFormat)
		}
	}
	return Address{Kind: S3, URL: q.Get("endpoint"), Region: q.Get("region"), Bucket: u.Host, Path: strings.Trim(u.Path, "/")}, nil
}

// hub finds the bucket's address in the path: what stands before it belongs to
// the hub's.
func hub(u *url.URL, scheme string) (Address, error) {
	if u.RawQuery != "" {
		return Address{}, fmt.Errorf("gaia://%s: it takes no query: %w", u.Host, htlcdash.ErrFormat)
	}
	a := Address{Kind: Gaia, URL: scheme + "://" + u.Host, Path: strings.Trim(u.Path, "/")}
	parts := strings.Split(a.Path, "/")
	for i, part := range parts {
		if gaia.IsAddress(part) {
			a.Owner, a.Path = part, strings.Join(parts[i+1:], "/")
			a.URL = strings.TrimSuffix(a.URL+"/"+strings.Join(parts[:i], "/"), "/")
			break
		}
	}
	return a, nil
}

// Source returns the source at an address. Nothing is asked of it yet; only a
// folder must be there. It knows how to print itself.
func Source(address string, c Config) (source.Source, error) {
	a, err := Parse(address)
	if err != nil {
		return nil, err
	}
	switch a.Kind {
	case Web:
		return web.New(a.URL, nil)
	case S3:
		return a.bucket(c)
	case Gaia:
		if a.Owner == "" {
			return nil, fmt.Errorf("source at %s: it does not say whose bucket: want gaia://HUB/ADDRESS/PATH", a.URL)
		}
		return gaia.New(a.URL, a.Owner, a.Path)
	}
	return dir.New(a.Path)
}

// Sources returns those at several addresses, in their order.
func Sources(addresses []string, c Config) ([]source.Source, error) {
	var out []source.Source
	for _, a := range addresses {
		s, err := Source(a, c)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Store returns the store at an address. Nothing is asked of it yet; a folder is
// made. It knows how to print itself.
func Store(address string, c Config) (source.Store, error) {
	a, err := Parse(address)
	if err != nil {
		return nil, err
	}
	switch a.Kind {
	case Web:
		return nil, errors.New("a web address can be read and not written to: give the store's own, such as s3://BUCKET/PREFIX, or a folder that a web server shows")
	case S3:
		return a.bucket(c)
	case Gaia:
		return a.hub(c)
	}
	return dir.NewStore(a.Path)
}

func (a Address) bucket(c Config) (*s3.Bucket, error) {
	config := s3.Config{Endpoint: c.S3Endpoint, Region: c.S3Region}
	if a.URL != "" {
		config.Endpoint, config.Region = a.URL, ""
	}
	if a.Region != "" {
		config.Region = a.Region
	}
	if c.S3Credentials != nil {
		var err error
		if config.Credentials, err = c.S3Credentials(); err != nil {
			return nil, err
		}
	}
	return s3.New(a.Bucket, a.Path, config)
}

func (a Address) hub(c Config) (*gaia.Place, error) {
	if c.GaiaKey == nil {
		return nil, errors.New("gaia: no key to write with")
	}
	secret, err := c.GaiaKey()
	if err != nil {
		return nil, fmt.Errorf("gaia key: %w", err)
	}
	key, err := gaia.NewKey(secret)
	if err != nil {
		return nil, err
	}
	if a.Owner != "" && a.Owner != key.Address() {
		return nil, fmt.Errorf("the bucket %s at %s is not that of your key, which is %s", a.Owner, a.URL, key.Address())
	}
	return gaia.NewWriter(a.URL, a.Path, key)
}

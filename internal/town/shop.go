package town

import (
	"context"
	"path/filepath"
	"strings"
	"time"
)

// A Shop is a resident who sells: a provider, or a relay. It may be killed and opened
// again, at the same address and with the same books.
type Shop struct {
	*Resident
	URL  string
	args []string
}

// A Trade is what a shop does.
type Trade struct {
	Titles   string   // folder, with keys beside it; empty: none
	Factor   string   // of its price; empty: as the publisher asks
	Upstream []*Shop  // whom it buys from; none: nobody
	Mode     string   // of buying upstream: pass or shelf
	Meets    []*Shop  // whom it exchanges announcements with
	More     []string // flags
}

// Settle lets somebody in who sells, once it is opened. It announces what it sells.
func (t *Town) Settle(name string, c Trade) (*Shop, error) {
	r, err := t.Move(name)
	if err != nil {
		return nil, err
	}
	address := r.IP.String() + ":8402"
	s := &Shop{Resident: r, URL: "http://" + address}
	r.books, r.sells = filepath.Join(r.Folder, "provider.db"), true
	titles := c.Titles
	if titles == "" {
		titles = filepath.Join(r.Folder, "none")
	}
	s.args = append([]string{
		"serve", "--name", name, "--listen", address, "--page", "", "--titles-folder", titles, "--public-url", s.URL,
		"--node-address", r.api, "--node-tls-cert", "", "--macaroon", "",
		"--ledger", r.books, "--secret", filepath.Join(r.Folder, "secret"), "--cache", filepath.Join(r.Folder, "sealed"),
		// All viewers come from one address here.
		"--credentials", "free", "--offer-rate", "1000000", "--invoice-rate", "1000000", "--max-open-offers", "1000000", "--stranger-bytes", "0",
	}, c.More...)
	if c.Factor != "" {
		s.args = append(s.args, "--price-factor", c.Factor)
	}
	if len(c.Meets) > 0 {
		s.args = append(s.args, "--relays", URLs(c.Meets))
	}
	if len(c.Upstream) > 0 {
		s.args = append(s.args, "--upstream", URLs(c.Upstream), "--upstream-mode", c.Mode,
			"--upstream-mirror", filepath.Join(r.Folder, "mirror"), "--upstream-macaroon", "", "--upstream-complaints", filepath.Join(r.Folder, "complaints"))
	}
	return s, nil
}

// Open starts the shop, for the first time or again, and returns when it answers. If
// the program gives up, as it does when its node is slow to answer, it is started once
// more, as a supervisor would.
func (s *Shop) Open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for {
		p, err := s.Launch(s.args...)
		if err != nil {
			return err
		}
		err = p.await(ctx, s.URL+"/v1/provider")
		if err == nil || p.running() {
			return err
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return err
		}
	}
}

// restartPause is how long a program that gave up is left alone.
const restartPause = time.Second

// URLs lists the addresses of shops as flags take them.
func URLs(shops []*Shop) string {
	var list []string
	for _, s := range shops {
		list = append(list, s.URL)
	}
	return strings.Join(list, ",")
}

package main

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/reach"
	"htlcdash/internal/seller"
)

// openDirectory opens the provider's part of the directory. Who is reached at a
// local address believes others there.
func (c serveCommand) openDirectory(key htlcdash.ProviderKey, door net.Addr, log *slog.Logger) (*directory.Host, error) {
	local := anyLocal(slices.Concat(c.PublicURL, c.Relays)...)
	if a, ok := door.(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		local = local || reach.IsLocal(a.IP.String())
	}
	host, err := directory.NewHost(directory.HostConfig{
		Key: key, Addresses: c.PublicURL, Peers: c.Relays, KeyAt: keyAt(reach.Client(local, learntTime)), Local: local,
		Name: c.Name, Version: version, Log: log,
	})
	if err != nil {
		return nil, usageError{err}
	}
	if len(c.PublicURL) == 0 {
		log.Info("titles are not announced: say by --public-url under which address viewers reach this provider")
	}
	return host, nil
}

// announce says what is on sale.
func (c serveCommand) announce(host *directory.Host, list []seller.OnSale, seeds []string, log *slog.Logger) {
	var titles []directory.Announcement
	for _, t := range list {
		a := directory.Announcement{
			Title: t.ID, Publisher: t.Publisher, Name: t.Name, Label: directory.Label(t.Manifest.Title()),
			Factor: int64(math.Round(c.PriceFactor * directory.PPM)), PerMiB: c.BytePrice,
		}
		if a.Sources, a.Infohashes = c.whereBytesLie(t); len(a.Infohashes) > 0 {
			a.Seeds = seeds
		}
		titles = append(titles, a)
	}
	if err := host.Sell(titles); err != nil {
		log.Warn("some titles are not announced", "err", err)
	}
}

// whereBytesLie is where sealed bytes of a title are to be had besides here: as its
// publisher says, and as the operator does; and the torrents that are seeded here.
func (c serveCommand) whereBytesLie(t seller.OnSale) (sources, infohashes []string) {
	for _, s := range slices.Concat(t.Manifest.Sources(), c.PublicSources) {
		if _, err := directory.ParseAddress(s); err == nil && !slices.Contains(sources, s) && len(sources) < directory.MaxSources {
			sources = append(sources, s)
		}
	}
	if c.Seed == "" {
		return sources, nil
	}
	for _, rep := range t.Manifest.Representations() {
		if rep.Pay.InfoHash != [32]byte{} && len(infohashes) < directory.MaxSources {
			infohashes = append(infohashes, hex.EncodeToString(rep.Pay.InfoHash[:]))
		}
	}
	return sources, infohashes
}

// seedsAt is where BitTorrent clients reach the seed that listens at an address, as
// far as that can be told.
func (c serveCommand) seedsAt(at net.Addr) ([]string, error) {
	if len(c.PublicSeeds) > directory.MaxSeeds {
		return nil, fmt.Errorf("--public-seeds: at most %d", directory.MaxSeeds)
	}
	for _, s := range c.PublicSeeds {
		if err := reach.CheckHostPort(s); err != nil {
			return nil, fmt.Errorf("--public-seeds: %w", err)
		}
	}
	a, ok := at.(*net.TCPAddr)
	if !ok || len(c.PublicSeeds) > 0 || len(c.PublicURL) == 0 {
		return c.PublicSeeds, nil
	}
	u, err := directory.ParseAddress(c.PublicURL[0])
	if err != nil {
		return nil, err
	}
	if a.IP.IsLoopback() && !reach.IsLocal(u.Hostname()) {
		return nil, nil // it is for this machine only
	}
	return []string{net.JoinHostPort(u.Hostname(), strconv.Itoa(a.Port))}, nil
}

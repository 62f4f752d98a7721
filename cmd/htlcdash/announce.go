package main

import (
	"encoding/hex"
	"log/slog"
	"math"
	"net"
	"slices"

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
func (c serveCommand) announce(host *directory.Host, list []seller.OnSale, log *slog.Logger) {
	var titles []directory.Announcement
	for _, t := range list {
		a := directory.Announcement{
			Title: t.ID, Publisher: t.Publisher, Name: t.Name, Label: directory.Label(t.Manifest.Title()),
			Factor: int64(math.Round(c.PriceFactor * directory.PPM)), PerMiB: c.BytePrice,
		}
		a.Sources, a.Infohashes = c.whereBytesLie(t)
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

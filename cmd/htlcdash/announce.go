package main

import (
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
		titles = append(titles, directory.Announcement{
			Title: t.ID, Publisher: t.Publisher, Name: t.Name, Label: directory.Label(t.Manifest.Title()),
			Factor: int64(math.Round(c.PriceFactor * directory.PPM)),
		})
	}
	if err := host.Sell(titles); err != nil {
		log.Warn("some titles are not announced", "err", err)
	}
}

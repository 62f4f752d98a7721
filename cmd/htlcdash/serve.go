package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/internal/config"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof/systems"
	"htlcdash/internal/seller"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/source"
	"htlcdash/source/open"
	"htlcdash/source/torrent"
)

type serveCommand struct {
	Node         config.Node   `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`
	Titles       config.Titles `embed:"" prefix:"titles-" envprefix:"HTLCDASH_TITLES_"`
	Stores       config.Stores `embed:"" prefix:"stores-" envprefix:"HTLCDASH_STORES_"`
	config.Serve `embed:"" envprefix:"HTLCDASH_SERVE_"`
}

func (serveCommand) Help() string {
	return "It sells what htlcdash publish has put into the titles' folder, and any files by the chunk. SIGHUP makes it read these folders again. " +
		"It waits for a node that does not answer yet, and ends if that refuses its macaroon or shows another certificate.\n\n" +
		"Example: htlcdash serve --listen :8402\n\n" +
		"With --upstream it sells on what other providers sell, too.\n\n" +
		"Example: htlcdash serve --upstream https://films.example"
}

func (c serveCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	public, operator, err := c.listeners()
	if err != nil {
		return err
	}
	node, info, err := awaitNode(ctx, c.Node, c.macaroon(), log, func() { // nobody is to wait at a door behind which there is no shop
		public.Close()
		if operator != nil {
			operator.Close()
		}
		public = nil
	})
	if err != nil {
		return err
	}
	if public == nil {
		if public, operator, err = c.listeners(); err != nil {
			return errors.Join(err, node.Close())
		}
	}
	return errors.Join(c.sell(ctx, public, operator, node, info.ID, log), node.Close())
}

// A till is what selling asks of a node.
type till interface {
	lightning.Payee
	seller.ChannelLister
}

// sell runs a provider until ctx is done.
func (c serveCommand) sell(ctx context.Context, public, operator net.Listener, node till, id lightning.NodeID, log *slog.Logger) (err error) {
	proxies, err := parsePrefixes(c.TrustedProxies)
	if err != nil {
		return usageError{err}
	}
	proofs, err := systems.Named(c.Proofs)
	if err != nil {
		return usageError{err}
	}
	stockUp(proofs, c.ProofsAhead)
	secret, _, err := secretFile(c.Secret)
	if err != nil {
		return fmt.Errorf("provider's secret: %w", err)
	}
	books, err := ledger.Open(string(c.Ledger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	config := seller.Config{
		Titles: c.titles(), Files: string(c.Files), FilePrice: c.FilePrice,
		Payee: node, Channels: node, Node: id, Alias: c.Name,
		Secret: exchange.NewSecret(secret), Books: books,
		Price: seller.Factor(c.PriceFactor), OfferLife: c.OfferLife, Prepaid: c.prepaid,
		Proofs: proofs, Issue: seller.Issue(c.Credentials), IssuePrice: c.CredentialPrice,
		Rations: seller.Rations{
			Life: c.CredentialLife, OpenOffers: c.CredentialOffers, Proofs: c.CredentialProofs, Bytes: int64(c.CredentialBytes),
		},
		BytePrice: c.BytePrice, ByteStep: int64(c.ByteStep),
		StrangerBytes:  cmp.Or(int64(c.StrangerBytes), -1),
		TrustedProxies: proxies, OfferRate: c.OfferRate, InvoiceRate: c.InvoiceRate, MaxOpenOffers: c.MaxOpenOffers,
		Log: log,
	}
	elsewhere, err := c.fetchElsewhere(&config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, elsewhere.library.Close()) }()
	till, err := c.openTill(ctx, node, secret, books)
	if err != nil {
		return err
	}
	if till != nil { // invoices that the node made before may still be paid
		config.Payee, config.Receipts = till, map[ledger.Source]lightning.Payee{ledger.FromTill: till, ledger.FromNode: node}
	}
	host, err := c.openDirectory(config.Secret.ProviderKey(), public.Addr(), log)
	if err != nil {
		return err
	}
	config.Directory = host
	stand, err := c.openStand(ctx, public.Addr(), log)
	if err != nil {
		return err
	}
	defer stand.close()
	swarms, seeds, err := c.openSeeds(log)
	if err != nil {
		return err
	}
	if swarms != nil {
		defer func() { err = errors.Join(err, swarms.Close()) }()
	}
	config.OnSale = func(list []seller.OnSale) {
		elsewhere.know(list)
		c.announce(host, list, seeds, log)
		stand.sell(list)
	}
	upstream, err := c.openReseller(ctx, node, books, elsewhere, log)
	if err != nil {
		return err
	}
	if upstream != nil {
		defer upstream.close()
		upstream.sells(&config, string(c.UpstreamMirror))
	}
	s, err := seller.New(ctx, config)
	if err != nil {
		return err
	}
	if swarms != nil {
		if err := seed(ctx, swarms, c.titles(), log); err != nil {
			log.Error("some titles are not seeded", "err", err)
		}
	}
	onHangup(ctx, func() {
		if err := s.Reload(ctx); err != nil {
			log.Error("titles", "err", err)
		}
		if swarms == nil {
			return
		}
		if err := seed(ctx, swarms, c.titles(), log); err != nil {
			log.Error("torrents", "err", err)
		}
	})
	if operator != nil {
		warnOpen(log, operator, "whoever reaches the operator's page sees your sales and channels", "--page")
	}
	log.Info("selling", "listen", public.Addr(), "page", c.Page, "node", id)
	group, ctx := errgroup.WithContext(ctx)
	if till != nil {
		group.Go(func() error { return till.Run(ctx, s.Preimage) })
	}
	group.Go(func() error {
		host.Run(ctx)
		return nil
	})
	group.Go(func() error { stand.run(ctx); return nil })
	if upstream != nil {
		group.Go(func() error { upstream.run(ctx, s); return nil })
	}
	group.Go(func() error { return s.Serve(ctx, public, operator) })
	return group.Wait()
}

// openSeeds returns what seeds the titles that are sold, and where others reach it;
// nil if they are not to be seeded.
func (c serveCommand) openSeeds(log *slog.Logger) (swarms *torrent.Client, at []string, err error) {
	if c.Seed == "" {
		return nil, nil, nil
	}
	swarms, err = torrent.New(torrent.Options{
		Listen: c.Seed, Trackers: c.TorrentTrackers, Local: anyLocal(slices.Concat(c.PublicURL, c.TorrentTrackers)...), Log: log,
	})
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--seed: %w", err)}
	}
	if at, err = c.seedsAt(swarms.Addr()); err != nil {
		return nil, nil, errors.Join(usageError{err}, swarms.Close())
	}
	return swarms, at, nil
}

// carriedMemory is what a provider keeps in memory of sealed bytes that lie
// elsewhere.
const carriedMemory = 64 << 20

// An elsewhere is where sealed bytes come from that are not in the titles'
// folders, and what is on sale of which they are.
type elsewhere struct {
	library *source.Library
	titles  source.Outline
	named   *open.Named // what titles name themselves
}

// know tells which titles are on sale.
func (e *elsewhere) know(list []seller.OnSale) {
	onSale := map[htlcdash.TitleID]bool{}
	for _, t := range list {
		onSale[t.ID] = true
		for _, rep := range t.Manifest.Representations() {
			if segs, ok := t.Loaded(rep.ID); ok {
				e.titles.Add(segs)
			}
		}
	}
	e.titles.Retain(func(id htlcdash.TitleID) bool { return onSale[id] })
}

// fetchElsewhere has the seller fetch sealed bytes that are not in its titles'
// folders from the configured sources, and from those that a title names.
func (c serveCommand) fetchElsewhere(s *seller.Config) (*elsewhere, error) {
	sources, err := open.Sources(c.Sources, openConfig(c.Stores))
	if err != nil {
		return nil, usageError{fmt.Errorf("serve.sources: %w", err)}
	}
	e := &elsewhere{}
	e.library, err = source.NewLibrary(source.Options{
		Memory: carriedMemory, Folder: string(c.Cache), Disk: int64(c.CacheSize), Log: s.Log,
		Guide: &e.titles, Ahead: c.bytesAhead(), Ready: readyWorth,
	}, sources...)
	if err != nil {
		return nil, err
	}
	e.named = &open.Named{Private: c.PrivateSources, Add: func(s source.Source) { e.library.Add(s) }}
	s.Sealed = e.library
	s.Elsewhere = func(t *title.Title) bool {
		if err := e.named.Title(t.ID, t.Manifest.Sources(), t.Holds); err != nil {
			s.Log.Warn("not all sources that a title names are used", "title", t.ID, "err", err)
		}
		return len(c.Sources)+len(t.Manifest.Sources()) > 0
	}
	return e, nil
}

// tillInterceptor is serve.till for a till beside the node.
const tillInterceptor = "interceptor"

// openTill returns the till beside the node, or nil if the node itself takes the
// money.
func (c serveCommand) openTill(ctx context.Context, node till, secret [32]byte, books *ledger.Ledger) (*lnd.Till, error) {
	if c.Till != tillInterceptor {
		return nil, nil
	}
	n, ok := node.(*lnd.Node)
	if !ok {
		return nil, usageError{errors.New("serve.till: only lnd has an interceptor; choose \"invoices\"")}
	}
	till, err := lnd.NewTill(ctx, n, secret, books)
	if err == nil {
		till.Step = crashStep()
	}
	return till, err
}

// macaroon is the one with which the node is asked.
func (c serveCommand) macaroon() config.Path {
	if len(c.Upstream) > 0 {
		return c.UpstreamMacaroon
	}
	return c.Macaroon
}

// titles is the folder of titles, unless it holds none and there is something
// else to sell.
func (c serveCommand) titles() []string {
	folder := string(c.Titles.Folder)
	if found, err := filepath.Glob(filepath.Join(folder, "*", title.MPDFile)); (c.Files != "" || len(c.Upstream) > 0) && err == nil && len(found) == 0 {
		if _, err := os.Stat(filepath.Join(folder, title.MPDFile)); err != nil {
			return nil
		}
	}
	return []string{folder}
}

func (c serveCommand) prepaid(title string) bool {
	return slices.Contains(c.Prepaid, "*") || slices.Contains(c.Prepaid, title)
}

// listeners opens both doors before anything else, since a taken port is the
// commonest fault. The seller closes them; so does the end of the process.
func (c serveCommand) listeners() (public, operator net.Listener, err error) {
	if public, err = listen(c.Listen, "--listen"); err != nil {
		return nil, nil, err
	}
	if c.Page == "" {
		return public, nil, nil
	}
	if operator, err = listen(c.Page, "--page"); err != nil {
		return nil, nil, errors.Join(err, public.Close())
	}
	return public, operator, nil
}

func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program: stop that or choose another address with %s", address, flag)
	}
	return l, err
}

// warnOpen says what it means that others than this machine reach a door.
func warnOpen(log *slog.Logger, l net.Listener, risk, flag string) {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("open beyond this machine: "+risk, "listen", a, "mend", "give a loopback address with "+flag+", or let only those in whom you trust")
	}
}

// onHangup calls do for each SIGHUP until ctx is done.
func onHangup(ctx context.Context, do func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-hangup:
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
}

// parsePrefixes reads networks and single addresses.
func parsePrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q: want an address or a network such as 10.0.0.0/8", s)
		}
		out = append(out, p)
	}
	return out, nil
}

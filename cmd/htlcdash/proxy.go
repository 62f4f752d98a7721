package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/porter"
	"htlcdash/internal/proxy"
	"htlcdash/lightning"
	"htlcdash/source"
)

const (
	// sealedMemory is what the proxy keeps of sealed bytes beside the cache on
	// disk: a few segments that are bought right now.
	sealedMemory = 16 << 20
	// recoverPatience is how long the proxy waits, before it lets players in,
	// until the node has told of an earlier run's payments.
	recoverPatience = 20 * time.Second
)

type proxyCommand struct {
	Node         config.Node `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`
	config.Proxy `embed:"" envprefix:"HTLCDASH_PROXY_"`
	Stores       config.Stores `embed:"" prefix:"stores-" envprefix:"HTLCDASH_STORES_"`

	Title []string `placeholder:"ID" help:"A title to look for, by its id of 64 hexadecimal digits: the relays tell who sells it, or else the nodes of --dht-bootstrap."`

	// For measurements: what payment adds to the very same files.
	Free []string `placeholder:"NAME=URL" help:"Play an ordinary DASH title too, which is not paid for: its name and the address of its MPD."`
}

func (proxyCommand) Help() string {
	return "Any DASH player can play through it: it finds, pays, checks and opens segments, within your budgets.\n\n" +
		"Example: htlcdash proxy --providers https://films.example --budget-day '5000 sat'\n\n" +
		"Example: htlcdash proxy --relays https://films.example --title 5f0c...e1\n\n" +
		"Example: htlcdash proxy --dht-bootstrap films.example:8402 --title 5f0c...e1"
}

func (c proxyCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	door, err := listen(c.Listen, "--listen")
	if err != nil {
		return err
	}
	defer func() { _ = door.Close() }() // if nothing came to serve it
	waited := false
	node, info, err := awaitNode(ctx, c.Node, c.Macaroon, log, func() { // no player is to wait at a door behind which there is nothing
		waited = true
		door.Close()
	})
	if err != nil {
		return err
	}
	if waited {
		if door, err = listen(c.Listen, "--listen"); err != nil {
			return errors.Join(err, node.Close())
		}
	}
	cleanUpEarly()
	log.Info("buying", "node", info.ID, "network", info.Network)
	return errors.Join(c.play(ctx, door, node, log), node.Close())
}

// A wallet is what playing asks of a node.
type wallet interface {
	lightning.Payer
	proxy.Wallet
}

// play runs a viewer's proxy until ctx is done.
func (c proxyCommand) play(ctx context.Context, door net.Listener, node wallet, log *slog.Logger) (err error) {
	books, err := ledger.Open(string(c.Ledger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	market, err := newMarket(c.ProxyProviders, c.Publishers, log)
	if err != nil {
		return usageError{err}
	}
	if err := market.want(c.Title...); err != nil {
		return usageError{err}
	}
	if err := market.buyFor(c.ProxyBuying, c.Stores, books, node, func(s source.Source) source.Source { return s }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, market.close()) }()
	player, err := proxy.New(proxy.Config{
		Log: log, Buyer: market.buyer, Wallet: node, Purchases: purchasesOf(books),
		Market: &onSale{market, c.Providers}, Hosts: c.Hosts, Origins: c.Origins,
		Wish: proxy.Wish{
			Profile: c.Profile, MinHeight: c.MinHeight, MaxHeight: c.MaxHeight,
			Thrift: c.Thrift, Sound: c.SoundWeight, Switch: c.SwitchWeight, Stall: c.StallWeight,
		},
		Settings: books,
		Ahead:    proxy.Ahead{Time: c.Ahead, Money: c.AheadMoney},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, player.Close()) }()
	market.show = func(_ context.Context, f found) error { return player.Add(f.info.Name, f.open) }
	if err := addFree(ctx, player, c.Free); err != nil {
		return err
	}
	settlePast(ctx, market.buyer, log)
	market.refresh(ctx)
	if err := market.missing(); err != nil && ctx.Err() == nil {
		log.Warn("not found yet; more relays can be given by --relays, or nodes of a table by --dht-bootstrap", "err", err)
	}
	stopFollowing := market.follow(ctx)
	defer stopFollowing()
	warnOpen(log, door, "whoever reaches the players' address spends your money", "--listen")
	log.Info("playing", "page", "http://"+door.Addr().String()+"/")
	return servePlayers(ctx, door, player, log)
}

// servePlayers ends when ctx does. Streams of events end with the proxy, so it
// is closed first.
func servePlayers(ctx context.Context, l net.Listener, p *proxy.Proxy, log *slog.Logger) error {
	server := &http.Server{
		Handler:           p.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	open, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var closed error
	context.AfterFunc(ctx, func() {
		closed = p.Close()
		stop()
	})
	if err := porter.Serve(open, l, server, stopGrace/2); err != nil {
		return err
	}
	return closed
}

// settlePast asks the node what became of payments that an earlier run left
// open, before players make new ones. Nothing is bought twice without it.
func settlePast(ctx context.Context, b *buyer.Buyer, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	if err := b.Recover(ctx); err != nil {
		log.Warn("some money stays reserved", "err", err)
	}
}

// addFree offers titles that cost nothing.
func addFree(ctx context.Context, p *proxy.Proxy, list []string) error {
	for _, s := range list {
		name, address, ok := cutName(s)
		if !ok {
			return usageError{fmt.Errorf("free title %q: want NAME=URL", s)}
		}
		if err := p.AddOpen(ctx, name, address); err != nil {
			return err
		}
	}
	return nil
}

// purchasesOf reads a title's payments out of the books, without secrets.
func purchasesOf(books *ledger.Ledger) func(context.Context, htlcdash.TitleID, int) iter.Seq2[buyer.Purchase, error] {
	return func(ctx context.Context, title htlcdash.TitleID, limit int) iter.Seq2[buyer.Purchase, error] {
		return func(yield func(buyer.Purchase, error) bool) {
			for p, err := range books.Purchases(ctx, ledger.Filter{Title: &title, Limit: limit, Newest: true}) {
				if !yield(shown(p), err) {
					return
				}
			}
		}
	}
}

func shown(p ledger.Purchase) buyer.Purchase {
	out := buyer.Purchase{
		Hash: p.Hash, Title: p.Title, Representation: p.Representation, Index: p.Index, Provider: p.Provider,
		Amount: p.Amount, Fee: p.Fee, State: p.State.String(), Lost: p.Lost, At: p.Created, Reason: p.Reason, Proof: p.Proof,
	}
	if !p.Settled.IsZero() {
		out.At, out.Took = p.Settled, p.Settled.Sub(p.Created)
	}
	return out
}

// crashStep lets a test kill this process at a step of a purchase or a sale, as
// a power cut would: HTLCDASH_CRASH_AT names the step (see buyer.Config and
// lnd.Till).
func crashStep() func(string) {
	at := os.Getenv("HTLCDASH_CRASH_AT")
	if at == "" {
		return nil
	}
	return func(step string) {
		if step != at {
			return
		}
		if self, err := os.FindProcess(os.Getpid()); err == nil && self.Kill() == nil {
			select {} // until the signal arrives
		}
	}
}

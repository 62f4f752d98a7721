package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

type walletCommands struct {
	Node config.Node `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`

	Balance   walletBalance   `cmd:"" help:"Show what the node can spend and receive, and its channels."`
	Address   walletAddress   `cmd:"" help:"Show an address to send coins to, which channels are made of."`
	Open      walletOpen      `cmd:"" help:"Open a channel."`
	Close     walletClose     `cmd:"" help:"Close a channel."`
	Pay       walletPay       `cmd:"" help:"Pay an invoice."`
	Request   walletRequest   `cmd:"" help:"Make an invoice."`
	Bake      walletBake      `cmd:"" help:"Make macaroons that may do only what is needed."`
	Guard     walletGuard     `cmd:"" help:"Hold macaroons with a budget to it: run the guard."`
	Autopilot walletAutopilot `cmd:"" help:"Let lnd open channels by itself, to the providers that we buy from."`
}

// use opens the wallet's node for one command.
func (w *walletCommands) use(ctx context.Context, log *slog.Logger, do func(*lnd.Node) error) error {
	node, _, err := openNode(ctx, w.Node, w.Node.Macaroon, log)
	if err != nil {
		return err
	}
	return errors.Join(do(node), node.Close())
}

type walletBalance struct{}

func (walletBalance) Help() string { return "Example: htlcdash wallet balance" }

func (walletBalance) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error { return showBalance(ctx, t.out, n) })
}

func showBalance(ctx context.Context, out io.Writer, node lightning.Wallet) error {
	balance, err := node.Balance(ctx)
	if err != nil {
		return err
	}
	channels, err := node.Channels(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "can spend\t%v\ncan receive\t%v\non the chain\t%v\n", balance.Outbound, balance.Inbound, balance.Chain)
	if len(channels) > 0 {
		fmt.Fprintln(w, "\nchannel\tpeer\tours\ttheirs\tin flight\tstate")
	}
	for _, c := range channels {
		fmt.Fprintf(w, "%s\t%v\t%v\t%v\t%d\t%s\n", c.Point, c.Peer, c.Local, c.Remote, c.InFlight, channelState(c))
	}
	return w.Flush()
}

func channelState(c lightning.Channel) string {
	state := "peer offline"
	if c.Active {
		state = "active"
	}
	if c.Private {
		state += ", private"
	}
	return state
}

type walletAddress struct{}

func (walletAddress) Help() string {
	return "Each call gives a fresh one; all of them stay yours.\n\nExample: htlcdash wallet address"
}

func (walletAddress) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error {
		address, err := n.Address(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.out, address)
		return err
	})
}

type walletOpen struct {
	Peer     string         `arg:"" help:"Node to open to: its key, or key@host:port if it is not connected yet."`
	Capacity lightning.Msat `arg:"" help:"Size of the channel, such as \"500000 sat\"."`
	Push     lightning.Msat `default:"0" help:"Amount given to the peer at once."`
	Private  bool           `help:"Do not announce the channel."`
}

func (walletOpen) Help() string {
	return "It takes some blocks until the channel can be used.\n\nExample: htlcdash wallet open 02c0..ab@films.example:9735 '500000 sat'"
}

func (c walletOpen) request() (r lightning.OpenRequest, err error) {
	key, addr, _ := strings.Cut(c.Peer, "@")
	r = lightning.OpenRequest{Addr: addr, Capacity: c.Capacity, Push: c.Push, Private: c.Private}
	r.Peer, err = lightning.ParseNodeID(key)
	return r, err
}

func (c walletOpen) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	request, err := c.request()
	if err != nil {
		return usageError{err}
	}
	return w.use(ctx, log, func(n *lnd.Node) error { return openChannel(ctx, t.out, n, request) })
}

func openChannel(ctx context.Context, out io.Writer, node lightning.Wallet, r lightning.OpenRequest) error {
	point, err := node.OpenChannel(ctx, r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "opening %s, usable after some blocks\n", point)
	return err
}

type walletClose struct {
	Channel lightning.ChannelPoint `arg:"" help:"Channel, txid:index as shown by wallet balance."`
	Force   bool                   `help:"Do not ask the peer. The money is locked for hours or days: only if the peer is gone."`
}

func (walletClose) Help() string { return "Example: htlcdash wallet close 5f3c..9e:0" }

func (c walletClose) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error { return closeChannel(ctx, t.out, n, c.Channel, c.Force) })
}

func closeChannel(ctx context.Context, out io.Writer, node lightning.Wallet, point lightning.ChannelPoint, force bool) error {
	txid, err := node.CloseChannel(ctx, point, force)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "closing with transaction %s\n", txid)
	return err
}

type walletPay struct {
	Invoice string         `arg:"" help:"Invoice (BOLT 11) with an amount."`
	MaxFee  lightning.Msat `default:"10 sat" help:"Most that the route may cost."`
}

func (walletPay) Help() string {
	return "Giving the same command again never pays twice.\n\nExample: htlcdash wallet pay lnbc210n1... --max-fee '2 sat'"
}

func (c walletPay) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	invoice, err := lightning.DecodeInvoice(c.Invoice)
	if err != nil {
		return usageError{err}
	}
	return w.use(ctx, log, func(n *lnd.Node) error { return payInvoice(ctx, t.out, n, invoice, c.MaxFee) })
}

func payInvoice(ctx context.Context, out io.Writer, node lightning.Payer, inv lightning.Invoice, maxFee lightning.Msat) error {
	payment, err := node.Pay(ctx, inv, maxFee)
	if errors.Is(err, lightning.ErrInFlight) {
		return fmt.Errorf("%w\nthe outcome is not known yet: give the same command again to see it, nothing is paid twice", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "paid %v and %v for the route\n", payment.Amount, payment.Fee)
	return err
}

type walletRequest struct {
	Amount lightning.Msat `arg:"" help:"Amount, such as \"21 sat\"."`
	Memo   string         `help:"Text for the payer."`
	Expiry time.Duration  `default:"1h" help:"How long the invoice can be paid."`
}

func (walletRequest) Help() string {
	return "Example: htlcdash wallet request '21 sat' --memo 'for the popcorn'"
}

func (c walletRequest) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	terms := lightning.Terms{Amount: c.Amount, Expiry: c.Expiry, Memo: c.Memo}
	return w.use(ctx, log, func(n *lnd.Node) error { return requestPayment(ctx, t.out, n, terms) })
}

// requestPayment prints the invoice alone, for a script or a QR code.
func requestPayment(ctx context.Context, out io.Writer, node lightning.Payee, terms lightning.Terms) error {
	invoice, err := node.Invoice(ctx, lightning.RandomPreimage(), terms)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, invoice.Bolt11)
	return err
}

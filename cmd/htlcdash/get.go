package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/words"
	"htlcdash/lightning"
)

type getCommand struct {
	Provider string `arg:"" help:"Address of the provider, such as https://files.example."`
	Root     string `arg:"" help:"Root of the file: its pieces root in a BitTorrent v2 torrent, 64 hexadecimal digits."`

	Length   int64          `required:"" help:"Length of the file in bytes. Whoever told you the root knows it; a root does not bind it." placeholder:"BYTES"`
	Out      string         `short:"o" required:"" help:"Where to put the file. What is there of it already is not bought." placeholder:"FILE"`
	MaxPrice lightning.Msat `default:"10 sat"   help:"Most that a MiB may cost."`
	Budget   lightning.Msat `default:"2000 sat" help:"Most that the file may cost, fees and what it has cost before included."`
	Window   int            `default:"64"       help:"Most chunks that are paid for at a time, which is what a cheat could take. It begins with one."`
	Exposure lightning.Msat `default:"0"        help:"Most that these may cost together. 0: only the window bounds it."`
	MaxFee   lightning.Msat `default:"2 sat"    help:"Most that one payment's route may cost."`

	TokenPrice             lightning.Msat `default:"0" help:"Most that a batch of anonymous credentials may cost, at a provider that sells them."`
	Node                   config.Node    `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`
	config.ProxyBooks      `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	config.ProxyMacaroon   `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	config.ProxyComplaints `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
}

func (getCommand) Help() string {
	return "It pays for one chunk first, and for more at a time while all are good. A chunk that is not the file's ends it: the provider is banned, and the proof of its cheat is kept. " +
		"Called again it goes on where it was, and pays for no chunk twice. It uses the proxy's books: stop the proxy, or name others with --proxy-ledger.\n\n" +
		"Example: htlcdash get https://files.example 5fd3...9a --length 734003200 -o film.mkv"
}

func (c getCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	root, err := htlcdash.ParseRoot(c.Root)
	if err != nil {
		return usageError{err}
	}
	node, _, err := openNode(ctx, c.Node, c.Macaroon, log)
	if err != nil {
		return err
	}
	return errors.Join(c.get(ctx, t.err, node, htlcdash.Blob{Root: root, Length: c.Length}, log), node.Close())
}

// get buys the file with a node.
func (c getCommand) get(ctx context.Context, people io.Writer, node lightning.Payer, file htlcdash.Blob, log *slog.Logger) (err error) {
	provider, err := buyer.NewProvider(c.Provider, nil)
	if err != nil {
		return usageError{err}
	}
	books, err := ledger.Open(string(c.Ledger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	b, err := buyer.New(buyer.Config{
		Ledger: books, Payer: node, Sealed: noSealed{},
		Limits: buyer.Limits{Segment: c.Budget, Title: c.Budget, Day: buyer.NoLimit}, Fee: buyer.Fee{Floor: c.MaxFee},
		TokenPrice: c.TokenPrice, Complain: complaintsIn(c.Complaints), Log: log, Step: crashStep(),
	})
	if err != nil {
		return err
	}
	defer b.Close()
	settlePast(ctx, b, log)
	out, err := os.OpenFile(c.Out, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return c.buy(ctx, newProgress(people), b, provider, file, out)
}

func (c getCommand) buy(ctx context.Context, p *progress, b *buyer.Buyer, provider *buyer.Provider, file htlcdash.Blob, out *os.File) error {
	p.begin("buying " + filepath.Base(c.Out))
	err := b.File(ctx, buyer.FileOrder{
		File: file, Provider: provider, MaxPrice: c.MaxPrice, Window: c.Window, Exposure: c.Exposure, To: out,
		Progress: func(now buyer.FileProgress) {
			p.at("%d %% (%d of %d chunks, %d being paid for), %v spent", 100*now.Bytes/file.Length, now.Have, now.Chunks, now.Window, now.Spent)
		},
	})
	if err == nil {
		err = out.Truncate(file.Length) // what was there before may have been longer
	}
	if err != nil {
		p.fail()
		if errors.Is(err, lightning.ErrInFlight) {
			err = fmt.Errorf("%w\nthe same command goes on from here, later", err)
		}
		return err
	}
	p.end(fmt.Sprintf("%d bytes for %v", file.Length, b.Account(htlcdash.TitleID(file.Root)).Spent))
	return nil
}

// noSealed is for a buyer that buys no titles.
type noSealed struct{}

func (noSealed) Get(context.Context, htlcdash.Blob) ([]byte, error) {
	return nil, htlcdash.ErrNotFound
}

type filesCommand struct {
	Where string `arg:"" help:"Folder or file on this machine, or the address of a provider."`
}

func (filesCommand) Help() string {
	return "The root is the pieces root of BitTorrent v2. Root and length are all that one must know to buy a file.\n\n" +
		"Example: htlcdash files ~/films\n\nExample: htlcdash files https://files.example"
}

func (c filesCommand) Run(ctx context.Context, t terminal) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	list := c.listHere
	if strings.HasPrefix(c.Where, "http://") || strings.HasPrefix(c.Where, "https://") {
		list = c.listSold
	}
	return errors.Join(list(ctx, w), w.Flush())
}

func (c filesCommand) listSold(ctx context.Context, w io.Writer) error {
	p, err := buyer.NewProvider(c.Where, nil)
	if err != nil {
		return usageError{err}
	}
	files, err := p.Files(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "root\tlength\ta MiB\tname")
	for _, f := range files {
		fmt.Fprintf(w, "%s\t%d\t%v\t%s\n", f.File.Root, f.File.Length, f.Price, words.Line(f.Name))
	}
	return nil
}

func (c filesCommand) listHere(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w, "root\tlength\tname")
	return filepath.WalkDir(c.Where, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		leaves, length, err := htlcdash.HashLeaves(f)
		if err != nil || length == 0 {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", htlcdash.FoldLayer(leaves, 1, 1), length, words.Line(path))
		return nil
	})
}

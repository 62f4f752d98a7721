package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
)

type ledgerCommands struct {
	Export ledgerExport `cmd:"" help:"Write what was bought or sold, a line for each segment."`
	Bans   ledgerBans   `cmd:"" help:"List the providers that are not bought from, or lift a ban."`
}

type ledgerExport struct {
	Side   string        `arg:"" enum:"bought,sold,receipts" help:"bought, sold, or receipts: what providers signed and the preimages that were paid for."`
	Format string        `default:"csv" enum:"csv,json" help:"csv, or json with one object a line."`
	Since  time.Duration `help:"Only the last hours, such as 24h." placeholder:"TIME"`
	Out    string        `help:"New file for receipts, private to you, with one JSON object a line." placeholder:"FILE"`

	Viewer   config.ProxyBooks `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	Provider config.ServeBooks `embed:"" prefix:"serve-" envprefix:"HTLCDASH_SERVE_"`
}

func (ledgerExport) Help() string {
	return "The books may be in use. Keys, preimages and invoices are left out, but of receipts: these are evidence, and hold the preimages that were paid for, which open what was bought. They go to a file that only you can read. Keep it as you keep keys.\n\n" +
		"Example: htlcdash ledger export bought > bought.csv\n\nExample: htlcdash ledger export receipts --out receipts.json"
}

func (c ledgerExport) Run(ctx context.Context, t terminal) error {
	var filter ledger.Filter
	if c.Since > 0 {
		filter.Since = time.Now().Add(-c.Since)
	}
	path := c.Viewer.Ledger
	if c.Side == "sold" {
		path = c.Provider.Ledger
	}
	books, err := ledger.OpenReader(string(path))
	if err != nil {
		return err
	}
	defer books.Close()
	if c.Side == "receipts" {
		return c.exportReceipts(ctx, books, filter)
	}
	out := bufio.NewWriter(t.out)
	write := rowWriter(out, c.Format)
	if c.Side == "sold" {
		err = exportSales(ctx, books, filter, write)
	} else {
		err = exportPurchases(ctx, books, filter, write)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// A cell is a column of an export: a name and a value.
type cell struct {
	name  string
	value any
}

func exportPurchases(ctx context.Context, books *ledger.Ledger, f ledger.Filter, write func([]cell) error) error {
	for p, err := range books.Purchases(ctx, f) {
		if err != nil {
			return err
		}
		err = write([]cell{
			{"created", stamp(p.Created)},
			{"settled", stamp(p.Settled)},
			{"state", p.State.String()},
			{"amount_msat", int64(p.Amount)},
			{"fee_msat", int64(p.Fee)},
			{"title", p.Title.String()},
			{"representation", p.Representation},
			{"index", p.Index},
			{"provider", p.Provider},
			{"payee", p.Payee.String()},
			{"payment_hash", p.Hash.String()},
			{"lost", p.Lost},
			{"reason", p.Reason},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func exportSales(ctx context.Context, books *ledger.Ledger, f ledger.Filter, write func([]cell) error) error {
	for s, err := range books.Sales(ctx, f) {
		if err != nil {
			return err
		}
		err = write([]cell{
			{"created", stamp(s.Created)},
			{"settled", stamp(s.Settled)},
			{"asked_msat", int64(s.Amount)},
			{"received_msat", int64(s.Received)},
			{"title", s.Title.String()},
			{"representation", s.Representation},
			{"index", s.Index},
			{"scheme", s.Scheme},
			{"payment_hash", s.Hash.String()},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func rowWriter(w io.Writer, format string) func([]cell) error {
	if format == "json" {
		return jsonRows(w)
	}
	return csvRows(w)
}

func csvRows(w io.Writer) func([]cell) error {
	table := csv.NewWriter(w)
	first := true
	return func(cells []cell) error {
		var names, values []string
		for _, c := range cells {
			names, values = append(names, c.name), append(values, harmless(c.value))
		}
		if first {
			_ = table.Write(names) // the flush below tells of its error
			first = false
		}
		_ = table.Write(values)
		table.Flush()
		return table.Error()
	}
}

// harmless keeps a spreadsheet from taking a stranger's words, such as the name
// of a Representation, for a formula.
func harmless(value any) string {
	s, ok := value.(string)
	if ok && s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return fmt.Sprint(value)
}

func jsonRows(w io.Writer) func([]cell) error {
	encoder := json.NewEncoder(w)
	return func(cells []cell) error {
		object := make(map[string]any, len(cells))
		for _, c := range cells {
			object[c.name] = c.value
		}
		return encoder.Encode(object)
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"htlcdash"
	repute "htlcdash/agent/market" // a market is the configured providers here
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/words"
)

type ledgerBans struct {
	Lift   string            `placeholder:"PROVIDER" help:"End the ban of this provider: its address, or its key. The proxy must not run."`
	Viewer config.ProxyBooks `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
}

func (ledgerBans) Help() string {
	return "Who took money and gave no key is not dealt with until its ban ends: after a year, and after twice as long each time that it cheats again. " +
		"Who sent what is not sound, asked too much, or let a payment hang is asked only if nobody else sells, for minutes to days. " +
		"A ban that is lifted is over, and the provider begins anew, on probation.\n\n" +
		"Example: htlcdash ledger bans\n\nExample: htlcdash ledger bans --lift https://films.example"
}

func (c ledgerBans) Run(ctx context.Context, t terminal) error {
	if c.Lift != "" {
		return c.lift(ctx, t)
	}
	books, err := ledger.OpenReader(string(c.Viewer.Ledger))
	if err != nil {
		return err
	}
	defer books.Close()
	now := time.Now()
	bans, err := lasting(ctx, books, now)
	if err != nil {
		return err
	}
	if len(bans) == 0 {
		_, err := fmt.Fprintln(t.out, "nobody is banned")
		return err
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "provider\tuntil\ttimes\twhy")
	for _, b := range bans {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", words.Line(b.Provider), b.Until.Local().Format(time.DateTime), b.Times, words.Line(b.Reason))
	}
	return w.Flush()
}

// lasting are the bans that last: for cheats, and of the market.
func lasting(ctx context.Context, books *ledger.Ledger, now time.Time) (all []ledger.Ban, err error) {
	bans, err := books.Bans(ctx)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, b := range bans {
		if now.Before(b.Until) {
			all, named[b.Provider] = append(all, b), true
		}
	}
	known, err := books.Reputation(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range known {
		var r repute.Record
		if json.Unmarshal(k.Record, &r) != nil || !now.Before(r.Banned) || named[k.Provider] || named[k.URL] {
			continue // what makes no sense is forgotten by the buyer
		}
		all = append(all, ledger.Ban{Provider: cmp.Or(k.URL, k.Provider), Reason: r.Reason, Until: r.Banned, Times: int(math.Ceil(r.Offences))})
	}
	return all, nil
}

func (c ledgerBans) lift(ctx context.Context, t terminal) error {
	books, err := ledger.Open(string(c.Viewer.Ledger))
	if err != nil {
		return err
	}
	lifted, err := books.Lift(ctx, c.Lift)
	if err != nil && !errors.Is(err, htlcdash.ErrNotFound) {
		return errors.Join(err, books.Close())
	}
	names := append(slices.Clone(lifted), c.Lift)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		forgiven, e := books.Forgive(ctx, name)
		if e != nil {
			return errors.Join(e, books.Close())
		}
		if len(forgiven) > 0 {
			err = nil
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(t.out, "lifted: %s begins anew\n", c.Lift)
	}
	return errors.Join(err, books.Close())
}

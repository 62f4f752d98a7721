package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/survey"
	"htlcdash/internal/words"
	"htlcdash/lightning"
)

type marketCommand struct {
	What string `arg:"" optional:"" help:"A title's id, or a part of its name; else all titles."`
	JSON bool   `name:"json" help:"Write it as JSON. Amounts are in msat, times in nanoseconds."`

	config.ProxyProviders `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	Viewer                config.ProxyBooks `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
}

func (marketCommand) Help() string {
	return "It asks your providers and relays, and for an id the nodes of --proxy-dht-bootstrap, too. It needs no node and pays nothing. " +
		"All of it is what providers say: binding is the signed offer for each key, which is never above the publisher's price.\n\n" +
		"Example: htlcdash market\n\nExample: htlcdash market bunny --proxy-relays https://films.example"
}

func (c marketCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	var want survey.Wanted
	if id, err := htlcdash.ParseTitleID(c.What); err == nil {
		want.Title = &id
	} else {
		want.Text = c.What
	}
	m, err := newMarket(c.ProxyProviders, nil, log)
	if err != nil {
		return usageError{err}
	}
	defer m.found.close()
	look := m.survey(c.Providers)
	look.Also = m.hinted
	if look.Standing, err = c.standing(ctx); err != nil {
		return err
	}
	p := newProgress(t.err)
	p.begin("asking providers")
	look.Asked = func(done, of int) { p.at("%d of %d", done, of) }
	r, err := survey.Look(ctx, look, want)
	if err != nil {
		p.fail()
		return fmt.Errorf("%w\nname providers by --proxy-providers, relays to ask by --proxy-relays, or nodes of a table by --proxy-dht-bootstrap", err)
	}
	p.end("")
	if c.JSON {
		out := json.NewEncoder(t.out)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	return printMarket(t.out, r, c.What)
}

// survey says where to look: at configured providers, and where the market looks.
func (m *market) survey(configured []string) survey.Config {
	return survey.Config{Providers: configured, Directory: m.found.directory, Client: m.found.client}
}

// hinted are the providers that were hinted at.
func (m *market) hinted() (found []string) {
	for {
		select {
		case address := <-m.found.hints:
			found = append(found, address)
		default:
			return found
		}
	}
}

// onSale is the market as the proxy's page shows it.
type onSale struct {
	market     *market
	configured []string
}

// Look implements [proxy.Market].
func (o *onSale) Look(ctx context.Context) (survey.Report, error) {
	c := o.market.survey(o.configured)
	c.Standing = o.market.buyer.Stands
	return survey.Look(ctx, c, survey.Wanted{})
}

// Want implements [proxy.Market].
func (o *onSale) Want(id htlcdash.TitleID) error {
	select {
	case o.market.found.late <- id:
		return nil
	default:
		return errors.New("so many titles are looked for at the moment: try again later")
	}
}

// standing is how providers stand by the viewer's books, if there are any yet.
func (c marketCommand) standing(ctx context.Context) (func(string, htlcdash.ProviderID) buyer.Standing, error) {
	if _, err := os.Stat(string(c.Viewer.Ledger)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	books, err := ledger.OpenReader(string(c.Viewer.Ledger))
	if err != nil {
		return nil, err
	}
	defer books.Close()
	return buyer.Remembered(ctx, books)
}

// printMarket prints a table of sellers for each title.
func printMarket(w io.Writer, r survey.Report, what string) error {
	if len(r.Titles) == 0 && what != "" {
		fmt.Fprintf(w, "nobody who answers sells %q\n", what)
	} else if len(r.Titles) == 0 {
		fmt.Fprintln(w, "nobody who answers sells anything")
	}
	for _, t := range r.Titles {
		fmt.Fprintf(w, "%s, %s, by %s\n%s\n", words.Line(t.Title), clock(t.Duration), shortKey(t.Publisher.String()), t.ID)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  provider\tkeys\tbytes, a MiB\tboth\tanswers in\tholds for\tyour books")
		for _, o := range t.Offers {
			p := r.Providers[o.Provider]
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", named(p), priced(o), perMiB(o), whole(o), answersIn(p.Latency), holds(o.Expires, r.At), standing(p.Standing))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if r.More {
		fmt.Fprintf(w, "There are more than these %d titles: name a part of what you look for.\n\n", len(r.Titles))
	}
	printSilent(w, r)
	if len(r.Titles) > 0 {
		fmt.Fprint(w, "Prices are for the whole title, at its lowest quality and at its best, as providers say; binding is the signed offer for each key.\n"+
			"\"both\" is with all bytes from there: they may come from others, and your proxy takes free ones first.\n"+
			"\"answers in\" is the median of five small requests to the provider, not the time that a key takes: a payment comes on top.\n")
	}
	return nil
}

// printSilent tells of whom nothing is listed.
func printSilent(w io.Writer, r survey.Report) {
	some := false
	for _, p := range r.Providers {
		if p.Error == "" {
			continue
		}
		if !some {
			fmt.Fprintln(w, "Left out:")
			some = true
		}
		fmt.Fprintln(w, "  "+words.Line(p.Error)) // which names the provider
	}
	if some {
		fmt.Fprintln(w)
	}
}

func named(p survey.Provider) string {
	if p.Name == "" {
		return words.Line(p.Address)
	}
	return words.Line(p.Name) + ", " + words.Line(p.Address)
}

func priced(o survey.Offer) string {
	switch {
	case o.BytesOnly:
		return "sells none"
	case !o.Priced:
		return "at most " + span(o.Min, o.Max)
	}
	return span(o.Min, o.Max)
}

func perMiB(o survey.Offer) string {
	if o.PerMiB == 0 {
		return "free"
	}
	return inSat(o.PerMiB) + " sat"
}

// whole is what keys and bytes cost.
func whole(o survey.Offer) string {
	if !o.Priced {
		return "at most " + span(o.WholeMin, o.WholeMax)
	}
	return span(o.WholeMin, o.WholeMax)
}

func span(low, high lightning.Msat) string {
	if low == high {
		return inSat(high) + " sat"
	}
	return inSat(low) + " to " + inSat(high) + " sat"
}

// inSat is an amount in sat without its unit.
func inSat(m lightning.Msat) string {
	return strconv.FormatFloat(float64(m)/float64(lightning.Sat), 'f', -1, 64)
}

func answersIn(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func holds(until, now time.Time) string {
	if until.IsZero() {
		return "not said"
	}
	if left := until.Sub(now); left >= time.Hour {
		return fmt.Sprintf("%d h %d min", int(left.Hours()), int(left.Minutes())%60)
	} else if left >= 0 {
		return fmt.Sprintf("%d min", int(left.Minutes()))
	}
	return "is over"
}

func standing(s *buyer.Standing) string {
	if s == nil || s.State == "unknown" {
		return "new to you"
	}
	text := s.State
	if !s.Until.IsZero() {
		text += " until " + s.Until.Local().Format(time.DateTime)
	}
	if s.Why != "" {
		text += ": " + words.Line(s.Why)
	}
	return text
}

// clock is a length in milliseconds.
func clock(ms int64) string {
	s := ms / 1000
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func shortKey(key string) string { return key[:10] + "…" + key[len(key)-6:] }

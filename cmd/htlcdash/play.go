package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/internal/config"
	"htlcdash/internal/dash"
	"htlcdash/internal/ledger"
	"htlcdash/internal/plain"
	"htlcdash/internal/player"
	"htlcdash/internal/player/view"
	"htlcdash/internal/proxy"
	"htlcdash/internal/title"
	"htlcdash/internal/words"
	"htlcdash/lightning"
	"htlcdash/source"
)

type playCommand struct {
	Title string `arg:"" help:"Name or id of a title that your providers sell, or the address of the MPD of one that is free."`

	Budget lightning.Msat `placeholder:"AMOUNT" help:"Most that this title may cost, what it has cost before included. It is kept for later, as on the proxy's page. Else what was chosen before, or proxy.budget_title."`
	Anyway bool           `help:"Play as far as the money goes, where it does not reach the end."`

	From      time.Duration `help:"Begin there, such as 1m30s."`
	To        time.Duration `help:"End there."`
	AudioOnly bool          `help:"Play the sound alone."`
	Lang      string        `placeholder:"TAG" help:"Language of the sound, such as de."`
	Profile   string        `placeholder:"NAME" help:"What matters to you: film, music, podcast, talk, data-saver or best; else proxy.profile."`
	Buffer    time.Duration `default:"20s" help:"Most that is fetched ahead of the picture."`
	Policy    string        `default:"agent" enum:"agent,lowest,highest,rate,bola,mpc" help:"Who chooses the quality: agent, or one of the rules that it is measured against: lowest, highest, rate, bola, mpc."`

	Write string  `placeholder:"FILE" help:"Write what is played as one MP4 stream; - is standard output, for a pipe into ffplay or mpv."`
	JSON  string  `placeholder:"FILE" help:"Write what happens, a line of JSON for each event; - is standard output."`
	Quiet bool    `help:"Say nothing while it plays, only at the end."`
	Fast  bool    `help:"Do not play in real time: fetch as fast as the network gives."`
	Speed float64 `default:"1" help:"How many times as fast as life it plays."`

	Node               config.Node `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`
	config.ProxyBuying `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	Stores             config.Stores `embed:"" prefix:"stores-" envprefix:"HTLCDASH_STORES_"`
}

func (playCommand) Help() string {
	return "It plays without showing anything, and says what a viewer would have seen and what it cost. To watch, pipe it into a player. " +
		"It uses the proxy's books and budgets: stop the proxy, or name others with --proxy-ledger. How fast the network was is kept in them for the next time. The address of an MPD that a proxy serves works, too.\n\n" +
		"Example: htlcdash play bunny --budget '100 sat'\n\n" +
		"Example: htlcdash play bunny --write - | ffplay -\n\n" +
		"Example: htlcdash play https://films.example/bunny/manifest.mpd --json events.jsonl --quiet"
}

func (c playCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	// Who closes a pipe ends the play, not the process: money may be under way.
	signal.Ignore(syscall.SIGPIPE)
	if c.Write == "-" && c.JSON == "-" {
		return usageError{errors.New("--write and --json cannot both go to standard output")}
	}
	if c.Speed <= 0 || c.Buffer <= 0 || c.From < 0 || c.To != 0 && c.To <= c.From {
		return usageError{errors.New("--speed and --buffer must be above 0, and --to behind --from")}
	}
	err := c.playAny(ctx, t, log)
	if errors.Is(err, syscall.EPIPE) && ctx.Err() == nil {
		log.Info("who took what was written has gone")
		return nil
	}
	return err
}

func (c playCommand) playAny(ctx context.Context, t terminal, log *slog.Logger) error {
	if strings.HasPrefix(c.Title, "http://") || strings.HasPrefix(c.Title, "https://") {
		return c.playFree(ctx, t, log)
	}
	node, _, err := awaitNode(ctx, c.Node, c.Macaroon, log, nil)
	if err != nil {
		return err
	}
	return errors.Join(c.playSold(ctx, t, node, log), node.Close())
}

// playFree plays what is not paid for.
func (c playCommand) playFree(ctx context.Context, t terminal, log *slog.Logger) error {
	film, err := plain.Open(ctx, c.Title, nil)
	if err != nil {
		return err
	}
	ladder, err := title.OpenLadder(film.Manifest, c.Lang)
	if err != nil {
		return err
	}
	_, err = c.play(ctx, t, player.NewMenu(ladder), player.Open{Title: film}, agent.Memory{}, log)
	if errors.Is(err, plain.ErrPaid) {
		err = fmt.Errorf("%w\nto buy it: htlcdash play NAME --proxy-providers ADDRESS", err)
	}
	return err
}

// playSold plays what providers sell.
func (c playCommand) playSold(ctx context.Context, t terminal, node lightning.Payer, log *slog.Logger) (err error) {
	books, err := ledger.Open(string(c.Ledger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	market, err := newMarket(c.ProxyProviders, c.Publishers, log)
	if err != nil {
		return usageError{err}
	}
	byID := market.want(c.Title) == nil // else it is a name
	meter := &player.Meter{}
	if err := market.buyFor(c.ProxyBuying, c.Stores, books, node, func(s source.Source) source.Source { return meter.Over(s) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, market.close()) }()
	onSale := shelf{}
	market.show = func(_ context.Context, f found) error { return onSale.add(f.info.Name, f.open) }
	settlePast(ctx, market.buyer, log)
	market.refresh(ctx)
	film, err := onSale.find(c.Title)
	if why := market.missing(); err != nil && byID && why != nil {
		return fmt.Errorf("%w\nmore relays to ask can be given by --proxy-relays, providers by --proxy-providers, or nodes of a table by --proxy-dht-bootstrap", why)
	}
	if err != nil {
		return err
	}
	defer market.follow(ctx)()
	if c.Budget > 0 {
		if err := market.buyer.SetTitleBudget(ctx, film.ID, c.Budget); err != nil {
			return err
		}
	}
	before := market.buyer.Account(film.ID)
	menu, err := c.menu(ctx, film, books, before.Spent > 0)
	if err != nil {
		return err
	}
	perMiB := market.buyer.BytePrice(ctx, film.ID)
	menu = menu.Carried(perMiB)
	stock := player.NewSealed(film, market.buyer, meter, perMiB)
	memory, err := proxy.Recall(ctx, books)
	if err != nil {
		log.Warn("begins without it", "error", err)
	}
	res, err := c.play(ctx, t, menu, stock, memory, log)
	if failed := proxy.Keep(context.WithoutCancel(ctx), books, res.Memory); failed != nil {
		log.Warn("what the network carried is not remembered", "error", failed)
	}
	if missing, ok := errors.AsType[*player.MoneyError](err); ok {
		err = fmt.Errorf("%w\n%s", err, c.advice(missing, before.Spent+stock.Money().Spent, before.DayLeft))
	}
	return err
}

// advice says which limit to raise.
func (c playCommand) advice(e *player.MoneyError, spent, dayLeft lightning.Msat) string {
	if dayLeft < e.Rest {
		return "the limit for a day binds: raise proxy.budget_day (--proxy-budget-day), or play with --anyway as far as the money goes"
	}
	need := (spent + e.Rest + lightning.Sat - 1) / lightning.Sat * lightning.Sat
	return fmt.Sprintf("to play it to the end: htlcdash play %s --budget '%v'; as far as the money goes: --anyway", c.Title, need)
}

// menu is what may be bought of a title: no keys that cost more than one may,
// and those that are owned, if there may be some, for nothing.
func (c playCommand) menu(ctx context.Context, film *title.Title, books *ledger.Ledger, some bool) (player.Menu, error) {
	ladder, err := film.Ladder(ctx, c.Lang)
	if err != nil {
		return player.Menu{}, err
	}
	owned := func(rep *dash.Representation, index int) bool {
		segs, err := film.Segments(ctx, rep.ID)
		if err != nil || !some {
			return false
		}
		_, err = books.Key(ctx, segs[index].Seal)
		return err == nil
	}
	menu, err := player.NewMenu(ladder).Owned(owned).Below(c.BudgetSegment)
	if err != nil {
		err = fmt.Errorf("%w: raise proxy.budget_segment (--proxy-budget-segment)", err)
	}
	return menu, err
}

// play plays a menu, and tells of it.
func (c playCommand) play(ctx context.Context, t terminal, menu player.Menu, stock player.Stock, memory agent.Memory, log *slog.Logger) (res player.Result, err error) {
	wish, err := c.wish()
	if err != nil {
		return res, usageError{err}
	}
	if c.AudioOnly || wish.SoundOnly && len(menu.Tracks) > 1 {
		if menu, err = menu.Only(agent.Audio); err != nil {
			return res, err
		}
	}
	if menu, err = menu.Cut(c.From, c.To); err != nil {
		return res, err
	}
	policy, err := c.policy(menu.Title, wish)
	if err != nil {
		return res, err
	}
	sink, err := c.sink(ctx, t, menu, stock)
	if err != nil {
		return res, err
	}
	tell, closeTell, err := c.teller(t, menu.Title)
	if err != nil {
		if sink != nil {
			err = errors.Join(err, sink.Close())
		}
		return res, err
	}
	res, err = player.Play(ctx, player.Config{
		Menu: menu, Stock: stock, Policy: policy, Weights: wish.Weights, Most: c.Buffer, Anyway: c.Anyway, Fast: c.Fast, Speed: c.Speed,
		Sink: sink, Event: tell, Log: log, Memory: memory,
	})
	return res, errors.Join(err, closeTell())
}

// wish is what the viewer prefers.
func (c playCommand) wish() (agent.Preferences, error) {
	return proxy.Wish{
		Profile: cmp.Or(c.Profile, c.ProxyBuying.Profile), MinHeight: c.MinHeight, MaxHeight: c.MaxHeight,
		Thrift: c.Thrift, Sound: c.SoundWeight, Switch: c.SwitchWeight, Stall: c.StallWeight,
	}.Resolve()
}

func (c playCommand) policy(t *agent.Title, wish agent.Preferences) (agent.Policy, error) {
	if c.Policy == "agent" {
		return agent.New(t, wish), nil
	}
	return agent.Rule(c.Policy, t, wish.Weights)
}

// sink is where the media goes; nil: nowhere.
func (c playCommand) sink(ctx context.Context, t terminal, menu player.Menu, stock player.Stock) (player.Sink, error) {
	out, closeOut, err := output(c.Write, t)
	if out == nil || err != nil {
		return nil, err
	}
	s, err := player.NewStream(ctx, out, menu, stock)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--write: %w", err), closeOut())
	}
	return streamTo{s, closeOut}, nil
}

// streamTo is a stream that closes what it writes to.
type streamTo struct {
	*player.Stream
	out func() error
}

func (s streamTo) Close() error { return errors.Join(s.Stream.Close(), s.out()) }

// teller tells people, and programs, what happens.
func (c playCommand) teller(t terminal, title *agent.Title) (func(player.Event), func() error, error) {
	out, closeOut, err := output(c.JSON, t)
	if err != nil {
		return nil, nil, err
	}
	people, closePeople := c.people(t, title)
	lines := json.NewEncoder(out)
	var failed error
	tell := func(e player.Event) {
		people(e)
		if out != nil && failed == nil && e.What != player.Tick {
			failed = lines.Encode(e)
		}
	}
	return tell, func() error { return errors.Join(closePeople(), failed, closeOut()) }, nil
}

// people tells people what happens: by a picture on a terminal, else by lines.
func (c playCommand) people(t terminal, title *agent.Title) (func(player.Event), func() error) {
	lines := &playLines{w: t.err, quiet: c.Quiet}
	if c.Quiet {
		return lines.tell, func() error { return nil }
	}
	screen, ok := view.Open(t.err, view.Config{Name: c.Title, Title: title, Most: c.Buffer})
	if !ok {
		return lines.tell, func() error { return nil }
	}
	return screen.Event, screen.Close
}

// output opens a file, or standard output for "-", which gets it as it is unless it
// is a terminal; nil for no name.
func output(name string, t terminal) (io.Writer, func() error, error) {
	nothing := func() error { return nil }
	switch name {
	case "":
		return nil, nothing, nil
	case "-":
		if raw := words.Raw(t.out); !isTerminal(raw) {
			return raw, nothing, nil
		}
		return t.out, nothing, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nothing, err
	}
	return f, f.Close, nil
}

// A shelf is the titles on sale.
type shelf map[*title.Title]string // by name

func (s shelf) add(name string, t *title.Title) error {
	s[t] = name
	return nil
}

// find returns the title with an id, or the only one of a name.
func (s shelf) find(name string) (*title.Title, error) {
	var found []*title.Title
	var names []string
	for t, n := range s {
		if t.ID.String() == name {
			return t, nil
		}
		if n == name {
			found = append(found, t)
		}
		names = append(names, words.Line(n))
	}
	slices.Sort(names)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%d titles are called %q: name one by its id", len(found), name)
	case len(s) == 0:
		return nil, fmt.Errorf("no provider answers with a title: name some by proxy.providers or --proxy-providers: %w", htlcdash.ErrNotFound)
	}
	return nil, fmt.Errorf("title %q: %w; on sale are: %s", name, htlcdash.ErrNotFound, strings.Join(names, ", "))
}

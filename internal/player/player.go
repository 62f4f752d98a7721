// Package player plays a title as a viewer would: in real time, one download
// at a time, with a policy of package agent that chooses what to buy.
//
//	Stock          where segments come from: bytes, then keys
//	  | Download   bytes of a segment; costs nothing, may be given up
//	  | Open       pays, while the next download goes on
//	  v
//	buffers        of each track, in order; the picture moves while all have some
//	  v
//	Sink           the playable segments, for a file or a pipe
//
// Nothing is decoded: a picture that moves is a clock. The rules are those of
// agent/replay, so what that predicts for a network can be held against what
// happens on one.
//
// Each purchase is one that leaves enough for the rest of the title. Where the
// money ends in spite of that, the title ends there, with an error that says
// how much more it takes.
package player

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// Errors that callers decide on.
var (
	// ErrMoney means that the money does not reach the end of the title. A
	// [Stock] says it of a single key, and that nothing was paid.
	ErrMoney = errors.New("not enough money")
	// ErrStopped means that nothing more can be had, whatever is asked for.
	ErrStopped = errors.New("buying was stopped")
)

// A Stock gives the segments of one title. Its methods may be called at once.
type Stock interface {
	// Init returns what a decoder needs before the first segment of rep; nil if
	// that needs nothing. It is free.
	Init(ctx context.Context, rep *dash.Representation) ([]byte, error)
	// Download returns the bytes of a segment as they travel. It spends nothing.
	// As they come, came is told how many more are here.
	Download(ctx context.Context, rep *dash.Representation, index int, came func(n int)) ([]byte, error)
	// Open makes of these bytes what a decoder takes. It pays for the key, if it
	// needs one that is not owned. The error matches [ErrMoney] if a limit does not
	// allow that. What it began to pay is finished also when ctx ends.
	Open(ctx context.Context, rep *dash.Representation, index int, data []byte) ([]byte, error)
	// Ready does beside the download what can be done for Open before the bytes are
	// here. What fails will be done by Open.
	Ready(ctx context.Context, rep *dash.Representation, index int)
	// Prepare asks ahead, for nothing, for what will make buying quick.
	Prepare(ctx context.Context, rep *dash.Representation, indexes []int)
	// Money says how the money stands.
	Money() Money
	// Stop starts no more payments. Those under way go on.
	Stop()
}

// Money is what may be spent on a title.
type Money struct {
	Left  lightning.Msat // what is under way is not spent yet; [agent.NoLimit] if nothing bounds it
	Spent lightning.Msat // since the stock was opened, fees included
	Fees  lightning.Msat // of Spent: for routes
	Share float64        // of the prices paid so far, what routes took on top
	// Routed says that routes may take something, which is not known before the
	// first payments.
	Routed bool
}

// Config says what is played and how.
type Config struct {
	Menu   Menu         // required
	Stock  Stock        // required
	Policy agent.Policy // required

	Most    time.Duration // that a buffer may hold; 0: 20 s
	Weights agent.Weights // for the account of it; zero: [agent.Standard]
	Look    time.Duration // how often a policy that may abandon a download looks at it; 0: 250 ms
	// GiveUp is how long a segment may be tried for in vain before the title ends
	// there. 0: 60 s.
	GiveUp time.Duration
	// Ahead is for how many segments offers are asked ahead. 0: 4.
	Ahead int
	// Anyway plays as far as the money goes, where it does not reach the end.
	Anyway bool
	// Memory is what is remembered of the network, for the first decisions.
	Memory agent.Memory

	// Speed is how many times as fast as life the clock runs. 0: 1.
	Speed float64
	// Fast does not wait for the picture: what the buffer holds is played at once
	// when there is no room in it.
	Fast bool

	Sink  Sink         // nil: what is played goes nowhere
	Event func(Event)  // is told what happens, one at a time; nil: nobody is
	Log   *slog.Logger // nil: none
}

func (c Config) withDefaults() Config {
	c.Most = cmp.Or(c.Most, 20*time.Second)
	c.Look = cmp.Or(c.Look, 250*time.Millisecond)
	c.GiveUp = cmp.Or(c.GiveUp, time.Minute)
	c.Ahead = cmp.Or(c.Ahead, 4)
	c.Speed = cmp.Or(c.Speed, 1)
	if c.Weights.Stall == 0 && c.Weights.Switch == 0 {
		c.Weights = agent.Standard
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Result is what a viewer got, and for how much. Spent includes fees.
type Result struct {
	replay.Result
	Played time.Duration  // of the media
	Fees   lightning.Msat // of Spent: for routes
	Memory agent.Memory   // what is to be remembered of the network
}

// A Sink takes what is played: the segments of each track in order, as soon as
// they can be decoded. Its methods are called one at a time.
type Sink interface {
	// Segment takes a segment of a Representation, and what a decoder needs
	// before the first of those.
	Segment(track int, rep *dash.Representation, index int, init, data []byte) error
	// Close ends it. [Play] calls it once, after the last segment.
	Close() error
}

// Play plays to the end of the title, or until ctx ends. The Result is also good
// beside an error: of what was played until then. The error matches [ErrMoney] if
// the money does not reach the end, which is found out before anything is bought;
// with Config.Anyway, when there is no more.
//
// Play closes the sink, whatever it returns. When it returns nothing of it runs any
// more, and each payment that it began has ended, or has hung for longer than the
// stock waits for one. Only a sink that takes nothing more after ctx has ended, since
// nobody reads at its other end, is left behind: it is closed once it gives the
// segment back.
func Play(ctx context.Context, c Config) (Result, error) {
	r, err := begin(c)
	if err != nil {
		if c.Sink != nil {
			err = errors.Join(err, c.Sink.Close())
		}
		return Result{}, err
	}
	return r.play(ctx)
}

// begin refuses what cannot be played.
func begin(c Config) (*run, error) {
	if c.Menu.Title == nil || c.Stock == nil || c.Policy == nil {
		return nil, errors.New("player: a menu, a stock and a policy are required")
	}
	if err := c.Menu.Check(); err != nil {
		return nil, err
	}
	r := newRun(c.withDefaults())
	return r, r.admit()
}

// admit says early that the money will not do.
func (r *run) admit() error {
	r.money = r.c.Stock.Money()
	rest := whole(r.floor.Rest(r.state), r.money.Share)
	if r.c.Anyway || rest <= r.money.Left {
		return nil
	}
	return &MoneyError{At: r.c.Menu.Start, Rest: rest, Left: r.money.Left}
}

// A MoneyError says what is missing. It matches [ErrMoney].
type MoneyError struct {
	At         time.Duration  // in the presentation: what plays from there on cannot be paid
	Rest, Left lightning.Msat // what that costs at least, routes included, and what may be spent
}

func (e *MoneyError) Error() string {
	return fmt.Sprintf("%v from %v on: that costs %v at least, and %v may be spent", ErrMoney, e.At.Round(time.Second), e.Rest, e.Left)
}

func (e *MoneyError) Unwrap() error { return ErrMoney }

// whole is a price with what routes take on top.
func whole(m lightning.Msat, share float64) lightning.Msat {
	return m + lightning.Msat(float64(m)*share)
}

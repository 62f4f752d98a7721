package main

import (
	"fmt"
	"io"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/player"
	"htlcdash/internal/words"
)

// playLines tells people how a title plays, a line now and then.
type playLines struct {
	w     io.Writer
	quiet bool
	told  time.Duration
	last  player.Event // of the picture, or the sound where there is none
}

func (p *playLines) tell(e player.Event) {
	if e.What == player.Segment && e.Track == 0 {
		p.last = e
	}
	switch {
	case e.What == player.End:
		p.sum(e)
	case p.quiet:
	case e.What == player.Start:
		fmt.Fprintf(p.w, "it plays after %v\n", e.At.Round(time.Millisecond))
	case e.What == player.Stall:
		fmt.Fprintf(p.w, "it stands still at %s\n", minutes(e.Position))
	case e.What == player.Retry:
		fmt.Fprintf(p.w, "tried again: segment %d of %s: %s\n", e.Index, words.Line(e.ID), words.Line(e.Why))
	case e.At-p.told >= plainEvery:
		p.told = e.At
		fmt.Fprintf(p.w, "%s of %s: %s, %v ahead, %.1f Mbit/s%s\n", minutes(e.Position), minutes(e.Length), p.quality(),
			least(e.Buffers).Round(100*time.Millisecond), e.Rate/1e6, money(e))
	}
}

func (p *playLines) quality() string {
	switch {
	case p.last.What == "":
		return "nothing yet"
	case p.last.Height > 0:
		return fmt.Sprintf("%dp", p.last.Height)
	}
	return words.Line(p.last.ID)
}

// sum is the last word.
func (p *playLines) sum(e player.Event) {
	r := e.Result
	fmt.Fprintf(p.w, "played %s, in %.1f dB on average, with %d changes\n", minutes(r.Played), r.Quality, r.Switches)
	fmt.Fprintf(p.w, "it began after %v and stood still %d times, %v in all\n", r.Start.Round(time.Millisecond), r.Stalls, r.Stall.Round(time.Millisecond))
	fmt.Fprintf(p.w, "%.1f MB came, %.1f MB of them for nothing%s\n", float64(r.Bytes)/1e6, float64(r.Wasted)/1e6, money(e))
}

// money is empty for what is free.
func money(e player.Event) string {
	switch {
	case e.Left == agent.NoLimit && e.Spent == 0:
		return ""
	case e.Left == agent.NoLimit:
		return fmt.Sprintf(", %v spent", e.Spent)
	}
	return fmt.Sprintf(", %v spent, %v left", e.Spent, e.Left)
}

func least(buffers []time.Duration) time.Duration {
	d := buffers[0]
	for _, b := range buffers {
		d = min(d, b)
	}
	return d
}

func minutes(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

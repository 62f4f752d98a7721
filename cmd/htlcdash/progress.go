package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"htlcdash/internal/words"
)

// plainEvery is how often work that goes on is told where no line can be
// rewritten.
const plainEvery = 5 * time.Second

// progress shows long work step by step: on a terminal each step is one line
// that is rewritten, elsewhere a few plain lines. Its methods may be called
// from many goroutines.
type progress struct {
	w    io.Writer
	live bool // w is a terminal

	mu    sync.Mutex
	step  string
	begun time.Time
	told  time.Time
}

func newProgress(w io.Writer) *progress {
	w = words.Raw(w) // all that others wrote goes through words.Line below
	return &progress{w: w, live: isTerminal(w)}
}

func isTerminal(w io.Writer) bool {
	f, ok := words.Raw(w).(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// begin starts a step, named as what is being done: "publishing the film".
func (p *progress) begin(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.begun, p.told = words.Line(step), time.Now(), time.Now()
	if p.live {
		p.rewrite("")
	} else {
		fmt.Fprintln(p.w, "... "+p.step)
	}
}

// at says how far the step is.
func (p *progress) at(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	detail := words.Line(fmt.Sprintf(format, args...))
	switch {
	case p.live:
		p.rewrite(": " + detail)
	case time.Since(p.told) >= plainEvery:
		p.told = time.Now()
		fmt.Fprintf(p.w, "    %s: %s\n", p.step, detail)
	}
}

// end says that the step is done, with a result worth reading or "".
func (p *progress) end(result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.begun).Round(100 * time.Millisecond)
	if result != "" {
		result = ", " + words.Line(result)
	}
	if p.live {
		fmt.Fprintf(p.w, "\r\x1b[K ok %s (%v)%s\n", p.step, took, result)
	} else {
		fmt.Fprintf(p.w, " ok %s (%v)%s\n", p.step, took, result)
	}
	p.step = ""
}

// fail leaves the line of an unfinished step, so that the error begins a new one.
func (p *progress) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.step != "" && p.live {
		fmt.Fprintln(p.w)
	}
	p.step = ""
}

// rewrite is called with the lock held.
func (p *progress) rewrite(detail string) {
	fmt.Fprintf(p.w, "\r\x1b[K... %s%s", p.step, detail)
}

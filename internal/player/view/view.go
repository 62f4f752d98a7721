// Package view shows on a terminal how a title is played: where the picture is
// and what is in hand, which rung, how good it is and how quick the network,
// and what it costs to the end.
//
// It listens to the events of package player and draws a few times in a second,
// on a screen of its own that is left at the end. Colours are the terminal's own
// sixteen, so they suit its background; NO_COLOR turns them off (no-color.org).
package view

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"htlcdash/agent"
	"htlcdash/internal/player"
	"htlcdash/internal/words"
)

// Config says what is shown.
type Config struct {
	Name  string        // of the title, for people
	Title *agent.Title  // required
	Most  time.Duration // that a buffer may hold; 0: 20 s
}

// A View is told of events and shows them. Its methods may be called by many
// goroutines at once.
type View struct {
	out  io.Writer
	size func() (width, height int) // of the terminal
	tone bool                       // with colours
	work sync.WaitGroup
	end  chan struct{}

	mu    sync.Mutex
	board *board
	over  bool

	shown string // what is on the screen, and since how many pictures; of the one who draws
	since int
}

// redraw is how often the screen follows what happens.
const redraw = 200 * time.Millisecond

// anew is after how many pictures one is drawn again that has not changed: others
// may have written on the terminal.
const anew = 5

// Open takes the terminal w, or that behind a [words.Writer], until Close. Without
// ok, w is none, or one that cannot do what is needed.
func Open(w io.Writer, c Config) (v *View, ok bool) {
	f, ok := words.Raw(w).(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	v = newView(f, c)
	v.live(os.Getenv("NO_COLOR") == "", func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	})
	return v, true
}

func newView(w io.Writer, c Config) *View {
	return &View{out: w, board: newBoard(c), end: make(chan struct{})}
}

// live draws on a terminal from now on. Its size is asked each time: that is
// quick, and no signal is missed.
func (v *View) live(tone bool, size func() (width, height int)) {
	v.tone, v.size = tone, size
	io.WriteString(v.out, alternate+hidden+cutOff)
	v.work.Go(v.watch)
}

// Event tells the View what happened.
func (v *View) Event(e player.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.board.add(e)
}

// Close gives the terminal back and leaves on it how things stood at last.
func (v *View) Close() error {
	v.mu.Lock()
	if v.over {
		v.mu.Unlock()
		return nil
	}
	v.over = true
	v.mu.Unlock()
	close(v.end)
	v.work.Wait()
	return v.leave()
}

// What a terminal understands (ECMA-48, and xterm's control sequences).
const (
	alternate, normal = "\x1b[?1049h", "\x1b[?1049l" // screen
	hidden, visible   = "\x1b[?25l", "\x1b[?25h"     // cursor
	cutOff, wrap      = "\x1b[?7l", "\x1b[?7h"       // what is too long: names of others may be wider than we think
	begin, commit     = "\x1b[?2026h", "\x1b[?2026l" // of a picture that is shown at once; ignored by those who do not know it
	home              = "\x1b[H"
	toEndOfLine       = "\x1b[K"
	toEndOfScreen     = "\x1b[J"
)

// watch draws until the end.
func (v *View) watch() {
	beat := time.NewTicker(redraw)
	defer beat.Stop()
	for {
		v.draw()
		select {
		case <-beat.C:
		case <-v.end:
			return
		}
	}
}

// draw writes the whole picture at once over the last one, if that is another.
func (v *View) draw() {
	width, height := v.size()
	v.mu.Lock()
	lines := v.board.frame(width, height)
	v.mu.Unlock()
	var b strings.Builder
	b.WriteString(begin + home)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l.text(v.tone) + toEndOfLine)
	}
	b.WriteString(toEndOfScreen + commit)
	if v.since++; b.String() != v.shown || v.since == anew {
		v.shown, v.since = b.String(), 0
		io.WriteString(v.out, v.shown)
	}
}

func (v *View) leave() error {
	width, height := v.size()
	var b strings.Builder
	b.WriteString(wrap + visible + normal)
	for _, l := range v.board.frame(width, height) {
		b.WriteString(l.text(v.tone) + "\r\n")
	}
	_, err := io.WriteString(v.out, b.String())
	return err
}

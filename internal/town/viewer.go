package town

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"htlcdash/lightning"
)

// A Viewer is a resident who watches, and pays.
type Viewer struct {
	*Resident
	knows  []*Shop
	events string // file of the last play
	more   []string
}

// Arrive lets somebody in who watches. It knows some shops, and finds the others
// through them.
func (t *Town) Arrive(name string, knows []*Shop, flags ...string) (*Viewer, error) {
	r, err := t.Move(name)
	if err != nil {
		return nil, err
	}
	r.books = filepath.Join(r.Folder, "viewer.db")
	return &Viewer{Resident: r, knows: knows, events: filepath.Join(r.Folder, "events.jsonl"), more: flags}, nil
}

// Play begins to play a title in real time, and does not wait for its end.
func (v *Viewer) Play(title string, flags ...string) (*Process, error) {
	if err := os.Remove(v.events); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return v.play(title, append([]string{"--json", v.events}, flags...)...)
}

func (v *Viewer) play(title string, flags ...string) (*Process, error) {
	args := append([]string{
		"play", title, "--quiet",
		"--proxy-providers", URLs(v.knows), "--proxy-relays", URLs(v.knows),
		"--node-address", v.api, "--node-tls-cert", "", "--proxy-macaroon", "",
		"--proxy-ledger", v.books, "--proxy-cache", filepath.Join(v.Folder, "cache"), "--proxy-complaints", filepath.Join(v.Folder, "complaints"),
		"--proxy-budget-title", "1000000 sat", "--proxy-budget-day", "1000000 sat",
	}, v.more...)
	return v.Launch(append(args, flags...)...)
}

// PlayFree is Play for the MPD of a title that costs nothing.
func (v *Viewer) PlayFree(url string, flags ...string) (*Process, error) {
	if err := os.Remove(v.events); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return v.Launch(append([]string{"play", url, "--quiet", "--json", v.events}, flags...)...)
}

// A Viewing is what a viewer saw of a title.
type Viewing struct {
	Segments int           // that came and could be played
	Start    time.Duration // until the first picture; 0: none came
	Played   time.Duration // of the picture
	Stalled  time.Duration // it stood still after it began
	Stalls   int
	Spent    lightning.Msat // by the player's own account
	Retries  int
	Heights  map[int]int // segments by lines of picture
}

// Viewing reads what became of the last play, also while it goes on.
func (v *Viewer) Viewing() (w Viewing, err error) {
	f, err := os.Open(v.events)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil // it did not come so far
	}
	if err != nil {
		return w, err
	}
	defer f.Close()
	w.Heights = map[int]int{}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return w, nil // a last line may be cut
		}
		var e struct {
			Event    string  `json:"event"`
			At       float64 `json:"at_ms"`
			Height   int
			Position float64        `json:"position_ms"`
			Stalled  float64        `json:"stall_ms"`
			Spent    lightning.Msat `json:"spent_msat"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return w, fmt.Errorf("%s: %w", v.events, err)
		}
		w.Played, w.Stalled, w.Spent = duration(e.Position), duration(e.Stalled), e.Spent
		switch e.Event {
		case "segment":
			w.Segments++
			w.Heights[e.Height]++
		case "start":
			w.Start = duration(e.At)
		case "stall":
			w.Stalls++
		case "retry":
			w.Retries++
		}
	}
}

func duration(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// settlePatience is how long open payments may take once the market has closed.
const settlePatience = 2 * time.Minute

// Rest ends all plays of a title, and has the viewers' programs find out what became
// of payments whose outcome they do not know yet. All shops must be open: payments
// that a relay holds end only there. When it returns without an error, no money is
// under way.
func (t *Town) Rest(ctx context.Context, viewers []*Viewer, title string) error {
	var work sync.WaitGroup
	for _, v := range viewers {
		work.Go(v.Stop)
	}
	work.Wait()
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		open, err := t.underWay(ctx)
		if err != nil || len(open) == 0 {
			return err
		}
		for _, v := range viewers {
			if !slices.Contains(open, v.Resident) {
				continue
			}
			// It asks its node first of all; then it plays, for no money.
			work.Go(func() {
				if p, err := v.play(title, "--fast", "--anyway", "--to", "1s", "--proxy-budget-segment", "0"); err == nil {
					<-p.Done()
				}
			})
		}
		work.Wait()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%d residents have payments under way: %w", len(open), ctx.Err())
		}
	}
}

// underWay lists who has payments that have not ended in its books or at its node.
func (t *Town) underWay(ctx context.Context) (open []*Resident, err error) {
	t.network.Wait()
	for _, r := range t.all() {
		channels, err := r.Node.Channels(ctx)
		if err != nil {
			return nil, err
		}
		unsettled, err := r.unsettled(ctx)
		if err != nil {
			return nil, err
		}
		if unsettled || channels[0].InFlight > 0 {
			open = append(open, r)
		}
	}
	return open, nil
}

func (r *Resident) unsettled(ctx context.Context) (bool, error) {
	books, err := r.openBooks()
	if books == nil || err != nil {
		return false, err
	}
	defer books.Close()
	list, err := books.Unsettled(ctx)
	return len(list) > 0, err
}

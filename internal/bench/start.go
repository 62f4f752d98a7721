package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// What payment may add to the start of a film: 1.2 of a raw payment's time,
// and startGrace.
const (
	startFactor = 1.2
	startGrace  = 50.0 // ms
)

// A visit is one way to watch the film.
type visit struct {
	name string // of its samples
	node string // of the viewer
	free bool
}

// starts is how many more times than the whole film its start is watched: it
// takes little time and varies much.
const starts = 2

// start plays the film in a browser, each time with fresh books: free, and
// paid over one channel and over two. All go through the same proxy program.
func start(ctx context.Context, s *stage, r *Report) error {
	titles, err := s.film(ctx)
	if err != nil {
		return err
	}
	plain, err := s.plain(ctx, titles)
	if err != nil {
		return err
	}
	files, err := s.files(ctx, plain)
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	visits := []visit{
		{"free", viewer, true}, {"one channel", viewer, false}, {"two channels", remote, false},
	}
	for _, v := range visits[1:] { // routes are learnt, and databases filled
		for range 5 {
			if _, err := s.rawPayment(ctx, v.node); err != nil {
				return err
			}
		}
	}
	r.Rounds = s.rounds(5)
	for round := range r.Rounds {
		for _, whole := range slices.Concat([]bool{true}, make([]bool, starts)) {
			for i := range visits { // each goes first now and then
				v := visits[(i+round)%len(visits)]
				s.Progress(fmt.Sprintf("round %d of %d: %s, whole: %v", round+1, r.Rounds, v.name, whole))
				if err := s.visit(ctx, r, v, sold, files.url+"/manifest.mpd", whole); err != nil {
					return err
				}
			}
		}
	}
	startRows(r, visits[1:])
	return nil
}

func startRows(r *Report, paid []visit) {
	free := r.median("free start-up")
	r.fact("start-up, free", "ms", free)
	for _, v := range paid {
		raw, all := r.median("raw payment, "+v.name), r.median(v.name+" start-up")
		most := startFactor*raw + startGrace
		r.fact("start-up, paid over "+v.name, "ms", all)
		r.add(Row{
			What: "  added by payment", Unit: "ms", Ours: all - free, Baseline: raw, Of: "a raw payment", Ratio: (all - free) / raw,
			Bound: fmt.Sprintf("<= %.0f ms", most), Verdict: verdict(all-free <= most),
		})
		stalls, before := sum(r.Samples[v.name+" stalls"]), sum(r.Samples["free stalls"])
		r.add(Row{
			What: "  stalls in all rounds", Ours: stalls, Baseline: before, Of: "free", Bound: "no more", Verdict: verdict(stalls <= before),
		})
		r.beside("  mean rung", "lines", v.name+" lines", "free lines", "free", 0)
	}
}

// visit watches the film once in a fresh browser through a fresh proxy, and
// pays a few raw payments right before.
func (s *stage) visit(ctx context.Context, r *Report, v visit, sold *process, plain string, whole bool) error {
	p, err := s.proxy(ctx, v.node, sold, "--free", "plain="+plain)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := s.quiet(ctx); err != nil {
		return err
	}
	if !v.free {
		for range 3 {
			took, err := s.rawPayment(ctx, v.node)
			if err != nil {
				return err
			}
			r.sample("raw payment, "+v.name, ms(took))
		}
	}
	page, until := p.url+"/#"+filmName, "1"
	if v.free {
		page = p.url + "/#plain"
	}
	if whole {
		until = "1000"
	}
	w, err := s.watch(ctx, page, "--until", until)
	if err != nil {
		return err
	}
	if w.StartupMs == nil || whole && !w.Ended {
		return fmt.Errorf("%s: the film did not play: %+v", v.name, w)
	}
	r.sample(v.name+" start-up", *w.StartupMs)
	if whole {
		r.sample(v.name+" stalls", float64(len(w.Stalls)))
		r.sample(v.name+" stall ms", w.StallMs)
		r.sample(v.name+" lines", w.MeanHeight)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// A watched is what the browser saw.
type watched struct {
	Ended      bool
	Position   float64
	StartupMs  *float64
	Stalls     []any
	StallMs    float64
	MeanHeight float64
	Error      *string
	Complaints []string
}

// watch plays a page's film in a real browser.
func (s *stage) watch(ctx context.Context, url string, flags ...string) (w watched, err error) {
	cmd := exec.CommandContext(ctx, "node", append([]string{s.Browser, url, "--seconds", "90"}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	apart(cmd)
	out, err := cmd.Output()
	if err != nil {
		return w, fmt.Errorf("browser: %w: %s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &w); err != nil {
		return w, fmt.Errorf("browser said %q: %w", out, err)
	}
	return w, nil
}

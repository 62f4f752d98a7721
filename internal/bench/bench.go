// Package bench measures what this project promises, each time beside a plain
// baseline in the same run, and says whether the promise holds:
//
//	start    payment adds little to the start of a film, and no stalls
//	purchase a proof before each payment costs little, beside paying on trust
//	sales    a provider sells about as fast as its node can be paid
//	till     a till beside the node takes payments as fast as the node itself
//	relay    what a relay adds to what it buys upstream
//	chunks   what it costs to pay for one segment by hundreds of HTLCs at once
//	sources  what it takes to fetch a segment from each kind of place
//	bytes    sealed bytes are served about as fast as by nginx
//	publish  sealing costs what its ciphers and hashes cost
//	proofs   a proof that a key opens its segment takes milliseconds
//	crowd    strangers and the greedy cost little, and do not delay who pays
//	market   many viewers, many providers that are killed by turns, each a process
//	scale    a provider that seeds ten thousand segments, and one with old books
//	memory   neither side's memory grows with films or viewers
//
// It needs a checkout: it runs the program itself, the private network, a
// browser, nginx, wrk and openssl, and makes its titles with ffmpeg. What is
// missing is an error that says how to get it. Results are medians; absolute
// figures are this machine's, so look at the ratios.
//
// It is no load generator for the servers of others.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Config says with what to measure. All but Rounds and Log are required.
type Config struct {
	Program string // htlcdash itself
	Film    string // a short film
	Browser string // the script that drives a browser and prints what it saw
	Gateway string // the service of buckets that make versitygw builds
	Folder  string // for titles, which are kept for the next run, and for what ends with this one

	Rounds   int               // of each measurement; 0: five, or what it needs
	Progress func(text string) // told what is being done, for people
	Log      *slog.Logger      // nil: none
}

// A Measurement is one of the things that can be measured.
type Measurement struct {
	Name string
	Help string // for people
	run  func(context.Context, *stage, *Report) error
	// needs are programs, and the packages of Debian that they are in.
	needs map[string]string
	nodes bool // it needs the private network
}

// All lists what can be measured, in the order in which it is.
func All() []Measurement {
	return []Measurement{
		{"start", "start-up, stalls and quality with and without payment", start, map[string]string{
			"ffmpeg": "ffmpeg", "nginx": "nginx-light", "chromium": "chromium", "node": "nodejs",
		}, true},
		{"purchase", "what one purchase adds to its segment", purchase, map[string]string{"ffmpeg": "ffmpeg"}, true},
		{"sales", "segments sold a second", sales, nil, true},
		{"till", "payments a second that a till beside the node takes", tills, nil, true},
		{"relay", "what a relay adds to its upstream", relays, nil, true},
		{"chunks", "one segment as hundreds of payments at once", chunks, nil, true},
		{"bytes", "sealed bytes served a second", serveBytes, map[string]string{"nginx": "nginx-light", "wrk": "wrk"}, true},
		{"sources", "one segment from each kind of place", sources, map[string]string{"nginx": "nginx-light"}, true},
		{"publish", "sealing, and a film from file to title", publishing, map[string]string{
			"ffmpeg": "ffmpeg", "openssl": "openssl",
		}, false},
		{"proofs", "proofs that a preimage opens a segment", proofs, nil, false},
		{"crowd", "a viewer amid strangers and greedy ones", crowdAt, nil, true},
		{"market", "many viewers and many providers, which are killed by turns", markets, nil, false},
		{"scale", "a provider that seeds ten thousand segments, and one with a million sales in its books", scale, nil, true},
		{"memory", "memory of both sides", memory, map[string]string{
			"ffmpeg": "ffmpeg", "chromium": "chromium", "node": "nodejs",
		}, true},
	}
}

// Check reports what m needs and this machine lacks, with the line that gets
// it.
func (m Measurement) Check(c Config) error {
	errs := []error{need(c.Program, "make build")}
	if _, ok := m.needs["ffmpeg"]; ok {
		errs = append(errs, need(c.Film, "make film"))
	}
	if _, ok := m.needs["chromium"]; ok {
		modules := filepath.Join(filepath.Dir(c.Browser), "node_modules", "playwright-core")
		errs = append(errs, need(modules, "npm ci --prefix "+filepath.Dir(c.Browser)))
	}
	for program, pkg := range m.needs {
		if _, err := lookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing: apt-get install %s", program, pkg))
		}
	}
	return errors.Join(errs...)
}

func need(file, remedy string) error {
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("%s is missing: run %s", file, remedy)
	}
	return nil
}

// Run measures and returns the results. What it started has ended when it
// returns.
func (m Measurement) Run(ctx context.Context, c Config) (_ *Report, err error) {
	if err := m.Check(c); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := newReport(m)
	s, err := newStage(ctx, c, m.nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := m.run(ctx, s, r); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	s.disturbance(r)
	r.Seconds = time.Since(r.Began).Round(time.Second).Seconds()
	r.Machine.LoadAfter = load()
	return r, nil
}

// rounds is how often to measure, n unless told otherwise.
func (s *stage) rounds(n int) int {
	if s.Rounds > 0 {
		return s.Rounds
	}
	return n
}

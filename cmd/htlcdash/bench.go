package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"htlcdash/internal/bench"
)

type benchCommand struct {
	What   string `arg:"" optional:"" default:"all" enum:"all,start,purchase,sales,till,relay,chunks,bytes,sources,publish,proofs,crowd,market,scale,memory" help:"What to measure: start, purchase, sales, till, relay, chunks, bytes, sources, publish, proofs, crowd, market, scale, memory or all."`
	Rounds int    `help:"How often to measure, or for market how many minutes; by default as often as it takes." placeholder:"N"`
	JSON   string `name:"json" help:"Write all figures to this folder too, a file for each measurement." placeholder:"FOLDER"`
	Media  string `help:"Film to measure with; by default Big Buck Bunny, which make film fetches." placeholder:"FILE"`
	Folder string `default:".build/bench" help:"Folder for titles that are made once, and for what ends with a run."`
}

func (benchCommand) Help() string {
	return "It measures what this program promises beside plain baselines: a server of files, raw payments, nginx, openssl. It needs a checkout, and starts a private network and a browser.\n\n" +
		"Example: htlcdash bench sales --rounds 5"
}

func (c benchCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	film := c.Media
	if film == "" {
		film = demoFilm
	}
	p := newProgress(t.err)
	config := bench.Config{
		Program: self, Film: film, Browser: filepath.Join("itest", "browser", "watch.mjs"), Folder: c.Folder,
		Gateway: filepath.Join(".build", "bin", "versitygw"),
		Rounds:  c.Rounds, Progress: func(text string) { p.at("%s", text) }, Log: log,
	}
	var errs []error
	for _, m := range bench.All() {
		if c.What == "all" || c.What == m.Name {
			errs = append(errs, m.Check(config))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, m := range bench.All() {
		if c.What != "all" && c.What != m.Name {
			continue
		}
		p.begin("measuring " + m.Help)
		report, err := m.Run(ctx, config)
		if err != nil {
			p.fail()
			return err
		}
		p.end("")
		if err := errors.Join(report.Write(t.out), c.keep(report)); err != nil {
			return err
		}
	}
	return nil
}

// keep writes the single figures of a report where the flag says.
func (c benchCommand) keep(r *bench.Report) error {
	if c.JSON == "" {
		return nil
	}
	if err := os.MkdirAll(c.JSON, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	return os.WriteFile(filepath.Join(c.JSON, r.Name+".json"), append(b, '\n'), 0o644)
}

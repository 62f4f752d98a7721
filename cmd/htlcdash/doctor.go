package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"htlcdash/internal/config"
	"htlcdash/internal/words"
	"htlcdash/lightning"
)

type doctorCommand struct {
	Role string `arg:"" optional:"" enum:"all,publish,serve,proxy" default:"all" help:"What shall work: publish, serve, proxy, or all of what is set up."`
	JSON bool   `name:"json" help:"Write one JSON array for programs."`

	Outbound lightning.Msat `default:"1000 sat" help:"What a viewer, or a provider that buys upstream, should be able to spend at least."`
	Inbound  lightning.Msat `default:"1000 sat" help:"What a provider should be able to receive at least."`

	Node   config.Node   `embed:"" prefix:"node-" envprefix:"HTLCDASH_NODE_"`
	Titles config.Titles `embed:"" prefix:"titles-" envprefix:"HTLCDASH_TITLES_"`
	Serve  config.Serve  `embed:"" prefix:"serve-" envprefix:"HTLCDASH_SERVE_"`
	Proxy  config.Proxy  `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
}

func (doctorCommand) Help() string {
	return "It changes nothing. Exit code 0: nothing failed.\n\nExample: htlcdash doctor serve"
}

// grade says how bad a finding is.
type grade string

const (
	ok   grade = "ok"
	warn grade = "warn" // works, or is not set up
	fail grade = "fail" // does not work
)

// A finding is one line of the doctor's report.
type finding struct {
	Check  string `json:"check"`
	Grade  grade  `json:"grade"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"` // what to do about it
}

func (f finding) String() string {
	s := fmt.Sprintf("%-4s  %s: %s", f.Grade, f.Check, words.Line(f.Detail))
	if f.Next != "" {
		s += "\n      -> " + f.Next
	}
	return s
}

// A report takes findings as they come.
type report struct {
	out    io.Writer
	json   bool
	all    []finding
	failed int
}

func (r *report) add(f finding) {
	r.all = append(r.all, f)
	if f.Grade == fail {
		r.failed++
	}
	if !r.json {
		fmt.Fprintln(r.out, f)
	}
}

func (r *report) ok(check, format string, args ...any) {
	r.add(finding{Check: check, Grade: ok, Detail: fmt.Sprintf(format, args...)})
}

func (r *report) warn(check, detail, next string) { r.add(finding{check, warn, detail, next}) }
func (r *report) fail(check, detail, next string) { r.add(finding{check, fail, detail, next}) }

// bad is a failure of what the person asked for, else only a warning.
func (r *report) bad(asked bool, check, detail, next string) {
	if asked {
		r.fail(check, detail, next)
		return
	}
	r.warn(check, detail, next)
}

// close ends the report.
func (r *report) close() error {
	if r.json {
		e := json.NewEncoder(r.out)
		e.SetIndent("", "  ")
		if err := e.Encode(r.all); err != nil {
			return err
		}
	}
	if r.failed > 0 {
		return errors.New("something does not work, see above")
	}
	return nil
}

// wants reports whether role is checked, and asks whether it was named, so
// that what is not set up is a fault.
func (c doctorCommand) wants(role string) bool { return c.Role == "all" || c.Role == role }
func (c doctorCommand) asks(role string) bool  { return c.Role == role }

func (c doctorCommand) Run(ctx context.Context, t terminal, file *config.File, log *slog.Logger) error {
	r := &report{out: t.out, json: c.JSON}
	if file.Name == "" {
		r.warn("configuration", "no file: defaults and environment", "htlcdash init")
	} else {
		r.ok("configuration", "%s", file.Name)
	}
	if c.wants("publish") {
		c.checkPrograms(ctx, r)
	}
	if c.wants("serve") || c.wants("proxy") {
		c.checkNode(ctx, r, log)
	}
	if c.wants("publish") || c.wants("serve") {
		c.checkTitles(ctx, r)
	}
	if c.wants("serve") {
		c.checkUpstream(ctx, r)
		c.checkProvider(ctx, r)
	}
	if c.wants("proxy") {
		c.checkViewer(ctx, r)
	}
	return r.close()
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs one command line and returns what it wrote.
func call(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	err = run(t.Context(), args, strings.NewReader(""), &out, &log)
	return out.String(), log.String(), err
}

func TestExitCodes(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, tt := range []struct {
		name string
		args []string
		code int
		text string // in output or error
	}{
		{"help", []string{"--help"}, exitOK, "Publish, sell and watch"},
		{"version", []string{"version"}, exitOK, "htlcdash development"},
		{"no command", nil, exitUsage, "htlcdash --help"},
		{"unknown command", []string{"serv"}, exitUsage, "serv"},
		{"unknown flag", []string{"version", "--lod-level=info"}, exitUsage, "--log-level"},
		{"no such file", []string{"version", "--config=/none"}, exitUsage, "/none"},
		{"bad value", []string{"version", "--log-level=loud"}, exitUsage, "loud"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, _, err := call(t, tt.args...)
			if code := exitCode(err); code != tt.code {
				t.Errorf("exit code %d, want %d: %v", code, tt.code, err)
			}
			if err != nil {
				out += err.Error()
			}
			if !strings.Contains(out, tt.text) {
				t.Errorf("no %q in %q", tt.text, out)
			}
		})
	}
	if exitCode(errors.New("x")) != exitError || exitCode(context.Canceled) != exitError {
		t.Error("an error is 1, and so is work that was interrupted")
	}
}

func TestInitRefusesToOverwrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sub", "htlcdash.toml")
	if _, _, err := call(t, "init", name); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(name)
	if _, _, err := call(t, "init", name, "--folder=/elsewhere"); err == nil || !strings.Contains(err.Error(), "stays as it is") {
		t.Errorf("the second init gives %v", err)
	}
	if after, _ := os.ReadFile(name); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
	if out, _, err := call(t, "config", "check", "--config", name); err != nil || !strings.Contains(out, "all fine") {
		t.Errorf("config check of the sample: %q, %v", out, err)
	}
}

func TestConfigCheckFindsFaults(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"unknown key", "[proxy]\nbudget_dai = \"1 sat\"", "did you mean proxy.budget_day?"},
		{"value of another command", "[serve]\noffer_life = \"soon\"", "offer-life"},
		{"amount without unit", "[proxy]\nbudget_day = \"1\"", "1 sat"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "c.toml")
			if err := os.WriteFile(name, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := call(t, "config", "check", "--config", name)
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// Every command that does something says in its help how it is called.
func TestEveryCommandHasAnExample(t *testing.T) {
	parser, err := newParser(&commands{}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(true) {
		if !strings.Contains(n.Detail, "Example: htlcdash ") {
			t.Errorf("%s has no example", n.Path())
		}
	}
}

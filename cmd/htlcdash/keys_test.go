package main

import (
	"io"
	"slices"
	"testing"

	"github.com/alecthomas/kong"

	"htlcdash/internal/config"
)

// Every key is the flag of a command, and every flag with a variable is a key.
func TestEveryKeyIsAFlag(t *testing.T) {
	parser, err := newParser(&commands{}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	_ = kong.Visit(parser.Model, func(v kong.Visitable, next kong.Next) error {
		if f, ok := v.(*kong.Flag); ok && f.Name != "config" {
			flags = append(flags, f.Envs...)
		}
		return next(nil)
	})
	var keys []string
	for _, k := range config.Keys() {
		keys = append(keys, k.Env)
		if !slices.Contains(flags, k.Env) {
			t.Errorf("%s (%s) is the flag of no command", k.Path(), k.Env)
		}
	}
	for _, env := range flags {
		if !slices.Contains(keys, env) {
			t.Errorf("%s is no key of the file", env)
		}
	}
}

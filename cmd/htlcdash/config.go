package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"htlcdash/internal/config"
)

type initCommand struct {
	File   config.Path `arg:"" optional:"" default:"~/.htlcdash/htlcdash.toml" help:"File to write; - is standard output."`
	Folder string      `default:"~/.htlcdash" help:"Folder for keys, books and films that the file names."`
}

func (initCommand) Help() string {
	return "It refuses to overwrite a file.\n\nExample: htlcdash init --folder /srv/htlcdash"
}

// Run writes the sample. The keys in it are no secrets, but the folder beside
// it will hold some.
func (c initCommand) Run(t terminal) error {
	sample := config.Sample(strings.TrimRight(c.Folder, "/"), nil)
	if c.File == "-" {
		_, err := t.out.Write(sample)
		return err
	}
	name := string(c.File)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and stays as it is", name)
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(sample); err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "wrote %s\nnext: set address and macaroon under [node], then htlcdash doctor\n", name)
	return nil
}

type configCommands struct {
	Check configCheck `cmd:"" help:"Check the configuration file and the environment."`
}

type configCheck struct{}

func (configCheck) Help() string { return "Example: htlcdash config check --config /etc/htlcdash.toml" }

// Run reads every value of every table, not only those of one command. That
// there are no unknown keys is known by now.
func (configCheck) Run(t terminal, f *config.File) error {
	if _, err := f.Config(); err != nil {
		return usageError{err}
	}
	if f.Name == "" {
		fmt.Fprintln(t.out, "no configuration file: defaults and environment are fine")
		return nil
	}
	fmt.Fprintf(t.out, "%s: %d keys, all fine\n", f.Name, f.Len())
	return nil
}

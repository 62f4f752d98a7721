package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"htlcdash/internal/config"
	"htlcdash/internal/fraud"
	"htlcdash/internal/words"
)

type judgeCommand struct {
	File   string `arg:"" help:"File with the complaint."`
	Sealed string `help:"File with the sealed bytes, if the complaint does not hold them." placeholder:"FILE"`
}

func (judgeCommand) Help() string {
	return "It needs no network, and believes nobody. It says who is accused of what, and what shows it. Exit code 0: proven, 1: not proven, 2: not readable.\n\n" +
		"Example: htlcdash verify-fraud ~/.htlcdash/complaints/1a2b3c4d5e6f7081.complaint"
}

func (c judgeCommand) Run(t terminal) error {
	b, err := readBounded(c.File, fraud.MaxBytes)
	if err != nil {
		return usageError{err}
	}
	complaint, err := fraud.Parse(b)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", c.File, err)}
	}
	var sealed []byte
	if c.Sealed != "" {
		if sealed, err = readBounded(c.Sealed, fraud.MaxBytes); err != nil {
			return usageError{err}
		}
	}
	v, err := complaint.Judge(sealed)
	if errors.Is(err, fraud.ErrNoBytes) {
		err = fmt.Errorf("%w: name a file that holds them with --sealed", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "PROVEN\n\nThe %s with the key\n    %s\n%s.\n\nWhat shows it:\n", v.Role, v.Accused, words.Line(v.Charge))
	for i, s := range v.Shown {
		fmt.Fprintf(t.out, "  %d. %s\n", i+1, words.Line(s))
	}
	return nil
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

// complaintsIn keeps complaints in a folder, private to the user: a file for
// each, named by its hash, so that none is kept twice.
func complaintsIn(folder config.Path) func([]byte) (string, error) {
	if folder == "" {
		return nil
	}
	return func(complaint []byte) (string, error) {
		if err := os.MkdirAll(string(folder), 0o700); err != nil {
			return "", err
		}
		sum := sha256.Sum256(complaint)
		name := filepath.Join(string(folder), fmt.Sprintf("%x.complaint", sum[:8]))
		return name, writeWhole(name, complaint)
	}
}

// writeWhole writes a whole file or none, private to the user.
func writeWhole(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

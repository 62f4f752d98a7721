package lnd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"htlcdash/lightning"
)

// FileTally is a [Tally] in one file of lines, each a JSON array of charges
// that were saved together. A line that a crash cut off at the end does not
// count: what it charged was never let do.
type FileTally struct {
	mu   sync.Mutex
	file *os.File
	all  map[tallyKey]Charge
}

// entry is a [Charge] in the file.
type entry struct {
	Account string         `json:"account"`
	Hash    lightning.Hash `json:"hash"`
	Msat    int64          `json:"msat"`
	Paid    bool           `json:"paid,omitempty"`
}

type tallyKey struct {
	account string
	hash    lightning.Hash
}

// OpenTally opens or makes a tally. Only its owner may read it. One process at
// a time may have it open.
func OpenTally(name string) (*FileTally, error) {
	t := &FileTally{all: make(map[tallyKey]Charge)}
	if err := t.read(name); err != nil {
		return nil, fmt.Errorf("tally %s: %w", name, err)
	}
	// written anew, so that it holds each charge once
	if err := t.rewrite(name); err != nil {
		return nil, fmt.Errorf("tally %s: %w", name, err)
	}
	return t, nil
}

func (t *FileTally) read(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // the rest, if any, was cut off
		}
		if err != nil {
			return err
		}
		var entries []entry
		if err := json.Unmarshal(line, &entries); err != nil {
			return fmt.Errorf("line %d is damaged: %w", n, err)
		}
		for _, e := range entries {
			t.put(Charge{e.Account, e.Hash, lightning.Msat(e.Msat), e.Paid})
		}
	}
}

func (t *FileTally) put(c Charge) {
	key := tallyKey{c.Account, c.Hash}
	t.all[key] = c
	if c.Amount == 0 {
		delete(t.all, key)
	}
}

func (t *FileTally) rewrite(name string) error {
	fresh, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	t.file = fresh
	err = t.write(slices.Collect(maps.Values(t.all)))
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return errors.Join(err, fresh.Close())
	}
	return nil
}

func (t *FileTally) write(charges []Charge) error {
	if len(charges) == 0 {
		return nil
	}
	var entries []entry
	for _, c := range charges {
		entries = append(entries, entry{c.Account, c.Hash, int64(c.Amount), c.Paid})
	}
	line, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	if _, err := t.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return t.file.Sync()
}

// Load returns all charges.
func (t *FileTally) Load(context.Context) ([]Charge, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.all)), nil
}

// Save appends charges and waits for the disk.
func (t *FileTally) Save(_ context.Context, charges []Charge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.write(charges); err != nil {
		return fmt.Errorf("tally: %w", err)
	}
	for _, c := range charges {
		t.put(c)
	}
	return nil
}

// Close closes the file.
func (t *FileTally) Close() error { return t.file.Close() }

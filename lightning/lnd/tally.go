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
	"path/filepath"
	"slices"
	"sync"

	"htlcdash/internal/lock"
	"htlcdash/lightning"
)

// FileTally is a [Tally] in one file of lines, each a JSON array of charges
// that were saved together. A line that a crash cut off at the end does not
// count: what it charged was never let do.
type FileTally struct {
	name string
	lock *os.File

	mu   sync.Mutex
	file *os.File // nil after a write that failed: its end may be torn
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

// OpenTally opens or makes a tally for this process alone: a second guard would
// write it anew under the first one's hands. Only its owner may read it.
func OpenTally(name string) (*FileTally, error) {
	held, err := lock.File(name + ".lock")
	if err != nil {
		return nil, fmt.Errorf("tally %s: %w", name, err)
	}
	t := &FileTally{name: name, lock: held, all: make(map[tallyKey]Charge)}
	err = t.read(name)
	if err == nil {
		err = t.rewrite() // so that it holds each charge once
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tally %s: %w", name, err), held.Close())
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

// rewrite puts a file of all charges in the place of the old one, and goes on
// with it.
func (t *FileTally) rewrite() error {
	fresh, err := os.OpenFile(t.name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(fresh, slices.Collect(maps.Values(t.all)))
	if err == nil {
		err = os.Rename(t.name+".new", t.name)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(t.name))
	}
	if err != nil {
		return errors.Join(err, fresh.Close())
	}
	t.file = fresh
	return nil
}

// syncFolder makes a rename in a folder durable.
func syncFolder(name string) error {
	folder, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// write appends a line, durably.
func write(f *os.File, charges []Charge) error {
	entries := []entry{}
	for _, c := range charges {
		entries = append(entries, entry{c.Account, c.Hash, int64(c.Amount), c.Paid})
	}
	line, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// Load returns all charges.
func (t *FileTally) Load(context.Context) ([]Charge, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.all)), nil
}

// Save appends charges and waits for the disk. After an error they do not
// count, and the next Save begins with a file written anew, since nothing may
// follow a torn line.
func (t *FileTally) Save(_ context.Context, charges []Charge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.save(charges); err != nil {
		return fmt.Errorf("tally: %w", err)
	}
	for _, c := range charges {
		t.put(c)
	}
	return nil
}

func (t *FileTally) save(charges []Charge) error {
	if len(charges) == 0 {
		return nil
	}
	if t.file == nil {
		if err := t.rewrite(); err != nil {
			return err
		}
	}
	err := write(t.file, charges)
	if err != nil {
		err = errors.Join(err, t.file.Close())
		t.file = nil
	}
	return err
}

// Close closes the file and lets others open it.
func (t *FileTally) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.file != nil {
		err = t.file.Close()
	}
	return errors.Join(err, t.lock.Close())
}

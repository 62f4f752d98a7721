package source

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"htlcdash"
)

// An lru counts bytes of blobs, the least recently used first to go. It is not
// safe for concurrent use.
type lru struct {
	bound int64 // bytes; below 0: none
	bytes int64
	order *list.List // of *item, the freshest in front
	items map[htlcdash.Blob]*list.Element
}

type item struct {
	blob htlcdash.Blob
	data []byte // in memory only
}

func newLRU(bound int64) lru {
	return lru{bound: bound, order: list.New(), items: make(map[htlcdash.Blob]*list.Element)}
}

func (c *lru) get(b htlcdash.Blob) (*item, bool) {
	e, ok := c.items[b]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*item), true
}

// put adds a blob and returns those that must go.
func (c *lru) put(b htlcdash.Blob, data []byte) (gone []htlcdash.Blob) {
	if _, ok := c.get(b); ok {
		return nil
	}
	c.items[b] = c.order.PushFront(&item{b, data})
	c.bytes += b.Length
	for c.bound >= 0 && c.bytes > c.bound {
		last := c.order.Back().Value.(*item).blob
		c.remove(last)
		gone = append(gone, last)
	}
	return gone
}

func (c *lru) remove(b htlcdash.Blob) {
	if e, ok := c.items[b]; ok {
		c.order.Remove(e)
		delete(c.items, b)
		c.bytes -= b.Length
	}
}

// memory keeps blobs in memory.
type memory struct {
	mu  sync.Mutex
	lru lru
}

func newMemory(bound int64) *memory { return &memory{lru: newLRU(bound)} }

func (m *memory) get(b htlcdash.Blob) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.lru.get(b)
	if !ok {
		return nil, false
	}
	return it.data, true
}

func (m *memory) put(b htlcdash.Blob, data []byte) {
	if b.Length > m.lru.bound {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.put(b, data)
}

// disk keeps blobs in a folder, laid out as [Path] says, so that the folder is
// itself a source for others. A file is renamed into place once it is whole and
// checked, and checked again when it is read, which costs 0.6 ms per MB: disks
// rot, and others may write to the folder. It is not synced: what a crash of
// the machine spoils is fetched again.
type disk struct {
	folder string
	mu     sync.Mutex // not held while files are read or written
	lru    lru
}

func openDisk(folder string, bound int64) (*disk, error) {
	if bound == 0 {
		bound = -1
	}
	if err := os.MkdirAll(filepath.Join(folder, htlcdash.SealedFolder), 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w: choose another folder or make this one writable", err)
	}
	d := &disk{folder: folder, lru: newLRU(bound)}
	return d, d.load()
}

// load takes stock of the folder, oldest first, and sweeps what a crash left
// half written.
func (d *disk) load() error {
	type file struct {
		blob htlcdash.Blob
		used time.Time
	}
	var files []file
	err := filepath.WalkDir(filepath.Join(d.folder, htlcdash.SealedFolder), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if match, _ := filepath.Match(tempPattern, e.Name()); match {
			return os.Remove(path)
		}
		root, err := htlcdash.ParseRoot(e.Name())
		if err != nil {
			return nil // not ours
		}
		info, err := e.Info()
		if err == nil {
			files = append(files, file{htlcdash.Blob{Root: root, Length: info.Size()}, info.ModTime()})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		d.removeFiles(d.lru.put(f.blob, nil))
	}
	return nil
}

const tempPattern = "part-*"

func (d *disk) path(b htlcdash.Blob) string {
	return filepath.Join(d.folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
}

func (d *disk) has(b htlcdash.Blob) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.lru.items[b]
	return ok
}

func (d *disk) get(b htlcdash.Blob) ([]byte, bool) {
	d.mu.Lock()
	_, ok := d.lru.get(b)
	d.mu.Unlock()
	if !ok {
		return nil, false
	}
	data, err := os.ReadFile(d.path(b))
	if err != nil || !b.Is(data) {
		d.mu.Lock()
		d.lru.remove(b)
		d.mu.Unlock()
		d.removeFiles([]htlcdash.Blob{b})
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(d.path(b), now, now) // the order after a restart; nothing hangs on it
	return data, true
}

func (d *disk) put(b htlcdash.Blob, data []byte) error {
	if d.lru.bound >= 0 && b.Length > d.lru.bound {
		return nil
	}
	if err := writeFile(d.path(b), data); err != nil {
		return err
	}
	d.mu.Lock()
	gone := d.lru.put(b, nil)
	d.mu.Unlock()
	d.removeFiles(gone)
	return nil
}

func (d *disk) removeFiles(blobs []htlcdash.Blob) {
	for _, b := range blobs {
		_ = os.Remove(d.path(b)) // already gone is as good
	}
}

// writeFile makes data appear at path whole or not at all.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

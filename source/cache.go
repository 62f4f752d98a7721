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
	"htlcdash/source/cache"
)

// memory keeps blobs in memory, the least recently used first to go: players
// ask again for what they just asked for.
type memory struct {
	bound int64
	mu    sync.Mutex
	bytes int64
	order *list.List // of *item, the freshest in front
	items map[htlcdash.Blob]*list.Element
}

type item struct {
	blob htlcdash.Blob
	data []byte
}

func newMemory(bound int64) *memory {
	return &memory{bound: bound, order: list.New(), items: make(map[htlcdash.Blob]*list.Element)}
}

func (m *memory) get(b htlcdash.Blob) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.items[b]
	if !ok {
		return nil, false
	}
	m.order.MoveToFront(e)
	return e.Value.(*item).data, true
}

func (m *memory) put(b htlcdash.Blob, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items[b] != nil || b.Length > m.bound {
		return
	}
	m.items[b] = m.order.PushFront(&item{b, data})
	for m.bytes += b.Length; m.bytes > m.bound; {
		last := m.order.Remove(m.order.Back()).(*item).blob
		delete(m.items, last)
		m.bytes -= last.Length
	}
}

// disk keeps blobs in a folder, laid out as [Path] says, so that the folder is
// itself a source for others. A file is renamed into place once it is whole and
// checked, and checked again when it is read, which costs 0.6 ms per MB: disks
// rot, and others may write to the folder. It is not synced: what a crash of
// the machine spoils is fetched again.
//
// Which blobs it keeps package cache decides. What that knows lies in a file
// beside them; without it the blobs are still there.
type disk struct {
	folder string

	mu       sync.Mutex // not held while files are read or written
	shelf    *cache.Shelf
	ahead    *cache.Ahead
	evicted  int64
	refused  int64
	saved    time.Time // when the index was written last, or is being
	indexing sync.Mutex
}

// indexName is the file, in the folder, of what the shelf knows.
const indexName = "shelf.index"

// openDisk also returns why the index could not be used, if so.
func openDisk(folder string, bound int64, terms cache.Terms) (d *disk, torn, err error) {
	if bound == 0 {
		bound = -1
	}
	if err := os.MkdirAll(filepath.Join(folder, htlcdash.SealedFolder), 0o755); err != nil {
		return nil, nil, fmt.Errorf("cache: %w: choose another folder or make this one writable", err)
	}
	d = &disk{folder: folder, shelf: cache.New(bound), saved: time.Now()}
	torn, err = d.load()
	d.ahead = cache.NewAhead(d.shelf.Audience(), terms)
	return d, torn, err
}

// load takes stock of the folder, oldest first, and sweeps what a crash left
// half written.
func (d *disk) load() (torn, err error) {
	blobs, err := d.stock()
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	index, err := os.ReadFile(filepath.Join(d.folder, indexName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		torn = err
	}
	gone, err := d.shelf.Restore(index, blobs)
	d.removeFiles(gone)
	return errors.Join(torn, err), nil
}

// stock lists the blobs in the folder, the least recently used first.
func (d *disk) stock() ([]htlcdash.Blob, error) {
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
	slices.SortStableFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	blobs := make([]htlcdash.Blob, len(files))
	for i, f := range files {
		blobs[i] = f.blob
	}
	return blobs, err
}

const tempPattern = "part-*"

func (d *disk) path(b htlcdash.Blob) string {
	return filepath.Join(d.folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
}

// ask books that somebody asked for it, and returns what is known of it.
func (d *disk) ask(it cache.Item) cache.Item {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shelf.Ask(it)
	d.ahead.Asked(it.Place)
	if held, ok := d.shelf.Held(it.Blob); ok {
		return held
	}
	return it
}

func (d *disk) has(b htlcdash.Blob) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.shelf.Held(b)
	return ok
}

func (d *disk) get(b htlcdash.Blob) ([]byte, bool) {
	d.mu.Lock()
	_, ok := d.shelf.Held(b)
	d.mu.Unlock()
	if !ok {
		return nil, false
	}
	data, err := os.ReadFile(d.path(b))
	if err != nil || !b.Is(data) {
		d.mu.Lock()
		d.shelf.Drop(b)
		d.mu.Unlock()
		d.removeFiles([]htlcdash.Blob{b})
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(d.path(b), now, now) // the order, should the index be lost; nothing hangs on it
	return data, true
}

// put keeps a blob if it is worth more than others.
func (d *disk) put(it cache.Item, data []byte) error {
	d.mu.Lock()
	wanted := d.shelf.Wants(it)
	if !wanted {
		d.refused++
	}
	d.mu.Unlock()
	if !wanted {
		return nil
	}
	if err := writeFile(d.path(it.Blob), data); err != nil {
		return err
	}
	d.mu.Lock()
	in, gone := d.shelf.Put(it)
	d.evicted += int64(len(gone))
	d.mu.Unlock()
	if !in { // others came in while it was written
		gone = []htlcdash.Blob{it.Blob}
	}
	d.removeFiles(gone)
	return nil
}

func (d *disk) removeFiles(blobs []htlcdash.Blob) {
	for _, b := range blobs {
		_ = os.Remove(d.path(b)) // already gone is as good
	}
}

// saveEvery is how long what was learnt may be in memory only.
const saveEvery = 5 * time.Minute

// mustSave reports whether it is time to, once.
func (d *disk) mustSave() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.saved) < saveEvery {
		return false
	}
	d.saved = time.Now()
	return true
}

// save writes what the shelf knows.
func (d *disk) save() error {
	d.indexing.Lock()
	defer d.indexing.Unlock()
	d.mu.Lock()
	index := d.shelf.Index()
	d.mu.Unlock()
	return writeFile(filepath.Join(d.folder, indexName), index)
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

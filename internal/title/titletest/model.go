package titletest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A model is a title in memory, with all that lies beside it.
type model struct {
	keys  string // file, below the folder of all
	files []file
	plain map[string][][]byte
}

type file struct {
	path string // below the folder of all
	mode fs.FileMode
	data []byte
}

// models are what was made in this process, by its options. To seal a title, and to
// wait until it is on the disk, is most of the time of a small test.
var models struct {
	sync.Mutex
	made map[string]*model
}

// maxModel bounds, in bytes, what is kept of one title.
const maxModel = 8 << 20

// copyOf writes into dir what the same options have made before, or makes it there.
func (t *Title) copyOf(tb testing.TB, o Options, dir string) {
	tb.Helper()
	models.Lock()
	defer models.Unlock()
	name := fmt.Sprintf("%#v", o)
	m := models.made[name]
	if m == nil {
		t.make(tb, o, dir)
		if m = t.model(tb, dir); m != nil {
			if models.made == nil {
				models.made = map[string]*model{}
			}
			models.made[name] = m
		}
		return
	}
	t.KeysFile, t.plain = filepath.Join(dir, m.keys), maps.Clone(m.plain)
	for _, f := range m.files {
		path := filepath.Join(dir, f.path)
		check(tb, os.MkdirAll(filepath.Dir(path), 0o777))
		check(tb, os.WriteFile(path, f.data, f.mode))
	}
}

// model reads the title that was made in dir; nil: it is too large to be kept.
func (t *Title) model(tb testing.TB, dir string) *model {
	tb.Helper()
	keys, err := filepath.Rel(dir, t.KeysFile)
	check(tb, err)
	m, size := &model{keys: keys, plain: maps.Clone(t.plain)}, 0
	check(tb, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size > maxModel {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, path)
		m.files, size = append(m.files, file{below, info.Mode().Perm(), data}), size+len(data)
		return err
	}))
	if size > maxModel {
		return nil
	}
	return m
}

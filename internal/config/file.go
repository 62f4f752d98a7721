package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
)

// DefaultFile is read when no other file is named, if it exists.
const DefaultFile Path = defaultFolder + "/htlcdash.toml"

// A File is a configuration file that was read. As a [kong.Resolver] it fills
// the flags that neither the command line nor the environment has set.
type File struct {
	Name   string
	values map[string]string // by Key.Path, as a flag would say it
}

// Open reads the file name. With an empty name it reads [DefaultFile], and
// gives an empty File if there is none.
func Open(name Path) (*File, error) {
	optional := name == ""
	if optional {
		if err := name.UnmarshalText([]byte(DefaultFile)); err != nil {
			return &File{}, nil // no home folder, so no file in it
		}
	}
	b, err := os.ReadFile(string(name))
	if optional && errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(string(name), b)
}

// Parse reads the text b of a configuration file. A key that it does not know
// is an error which names the most similar one.
func Parse(name string, b []byte) (*File, error) {
	var tables map[string]any
	if _, err := toml.Decode(string(b), &tables); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &File{Name: name, values: map[string]string{}}
	keys := Keys()
	var errs []error
	for _, path := range flatten("", tables) {
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Path() == path.name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s: unknown key %s%s", name, path.name, suggest(path.name, keys)))
			continue
		}
		v, err := keys[i].plain(path.value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", name, path.name, err))
		}
		f.values[path.name] = v
	}
	return f, errors.Join(errs...)
}

// Validate satisfies [kong.Resolver].
func (f *File) Validate(*kong.Application) error { return nil }

// Resolve satisfies [kong.Resolver]. The environment goes before the file,
// which kong would do the other way round.
func (f *File) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := f.values[envKey(flag)]
	if !ok {
		return nil, nil
	}
	if _, set := os.LookupEnv(flag.Envs[0]); set {
		return nil, nil
	}
	return v, nil
}

// Config returns the whole configuration: this file, the environment over it,
// and defaults under it. The error says which value cannot be read.
func (f *File) Config() (Config, error) {
	var c Config
	parser, err := kong.New(&c, kong.NoDefaultHelp(), Environment(), kong.Resolvers(f))
	if err != nil {
		panic("config: " + err.Error())
	}
	if _, err := parser.Parse(nil); err != nil {
		return c, fmt.Errorf("%s: %w", f.Name, err)
	}
	return c, nil
}

// Len is the number of keys that the file sets.
func (f *File) Len() int { return len(f.values) }

type entry struct {
	name  string
	value any
}

// flatten lists the values of nested tables by their full names, sorted.
func flatten(prefix string, table map[string]any) (out []entry) {
	for name, v := range table {
		if sub, ok := v.(map[string]any); ok {
			out = append(out, flatten(prefix+name+".", sub)...)
			continue
		}
		out = append(out, entry{prefix + name, v})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out
}

// suggest names the key that is most like name, if one is.
func suggest(name string, keys []Key) string {
	best, distance := "", len(name)/2+1
	for _, k := range keys {
		for _, candidate := range []string{k.Path(), k.Name} {
			if d := levenshtein.ComputeDistance(name, candidate); d < distance {
				best, distance = k.Path(), d
			}
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// plain turns a TOML value into what a flag would say, and refuses a value of
// another kind: a number without quotes has no unit.
func (k Key) plain(v any) (string, error) {
	switch v := v.(type) {
	case string:
		if k.kind == text {
			return v, nil
		}
	case bool:
		if k.kind == boolean {
			return strconv.FormatBool(v), nil
		}
	case int64, float64:
		if k.kind == number {
			return fmt.Sprint(v), nil
		}
	case []any:
		if k.kind == list {
			return joinList(v)
		}
	}
	return "", fmt.Errorf("want %s", k.kind)
}

func (k kind) String() string {
	return [...]string{"text in quotes", "true or false", "a number", "a list of texts in quotes"}[k]
}

func joinList(values []any) (string, error) {
	var out []string
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return "", fmt.Errorf("want %s", list)
		}
		out = append(out, strings.ReplaceAll(s, ",", `\,`))
	}
	return strings.Join(out, ","), nil
}

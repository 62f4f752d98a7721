package config

import (
	"bytes"
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

const envPrefix = "HTLCDASH_"

// A Key is one thing that can be configured.
type Key struct {
	Table   string // of the file: "serve"
	Name    string // in the table: "listen"
	Env     string // "HTLCDASH_SERVE_LISTEN"
	Help    string // one or two sentences
	Default string // as a flag would say it
	about   string // what the table is for
	kind    kind
}

// Path is the full name of k in the file: "serve.listen".
func (k Key) Path() string { return k.Table + "." + k.Name }

// kind is how a value is written in TOML.
type kind int

const (
	text kind = iota
	boolean
	number
	list // of strings
)

// Keys returns all keys in the order of the file.
func Keys() []Key {
	parser, err := kong.New(&Config{}, kong.NoDefaultHelp(), Environment())
	if err != nil {
		panic("config: " + err.Error()) // the tags of Config are wrong
	}
	var keys []Key
	for _, f := range parser.Model.Flags {
		table, name, _ := strings.Cut(envKey(f), ".")
		keys = append(keys, Key{
			Table: table, Name: name, Env: f.Envs[0], Help: f.Help, Default: f.Default,
			about: f.Group.Title, kind: kindOf(f.Target.Type()),
		})
	}
	return keys
}

// Environment gives each flag under an envprefix its variable.
func Environment() kong.Option {
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model, func(v kong.Visitable, next kong.Next) error {
			if f, ok := v.(*kong.Flag); ok && strings.HasPrefix(f.Tag.EnvPrefix, envPrefix) {
				name := strings.TrimPrefix(f.Name, f.Tag.Prefix)
				f.Envs = []string{f.Tag.EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
				f.Tag.Envs = f.Envs
			}
			return next(nil)
		})
	})
}

// envKey gives the key of a flag by its variable, or "" if it has none.
func envKey(f *kong.Flag) string {
	if len(f.Envs) == 0 {
		return ""
	}
	rest, ok := strings.CutPrefix(f.Envs[0], envPrefix)
	if !ok {
		return ""
	}
	return strings.ToLower(strings.Replace(rest, "_", ".", 1))
}

func kindOf(t reflect.Type) kind {
	_, isText := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	switch {
	case isText || t == reflect.TypeFor[time.Duration]():
		return text
	case t.Kind() == reflect.Bool:
		return boolean
	case t.Kind() == reflect.Slice:
		return list
	case t.Kind() == reflect.String:
		return text
	}
	return number
}

// Sample returns the commented configuration file with every key at its
// default. Where a default lies in ~/.htlcdash, the sample says folder
// instead. Values, by [Key.Path] and as a flag would say them, go before
// defaults; it panics on one that is no key.
func Sample(folder string, values map[string]string) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Configuration of htlcdash.")
	fmt.Fprintln(&b, "# Each key is also an environment variable (named beside it) and a flag.")
	fmt.Fprintln(&b, "# A flag goes before the environment, that before this file.")
	fmt.Fprintln(&b, `# Amounts, sizes and times have units: "21 sat", "1500 msat", "2 GiB", "10m".`)
	table, used := "", 0
	for _, k := range Keys() {
		if k.Table != table {
			table = k.Table
			fmt.Fprintf(&b, "\n# %s\n[%s]\n", k.about, table)
		}
		value, ok := values[k.Path()]
		if ok {
			used++
		} else {
			value = strings.Replace(k.Default, defaultFolder, folder, 1)
		}
		fmt.Fprintf(&b, "\n# %s\n# %s\n%s = %s\n", k.Help, k.Env, k.Name, k.literal(value))
	}
	if used != len(values) {
		panic("config: a value for a key that does not exist")
	}
	return b.Bytes()
}

// defaultFolder is where all files of ours lie by default.
const defaultFolder = "~/.htlcdash"

// literal is value, which a flag would say, in TOML.
func (k Key) literal(value string) string {
	switch k.kind {
	case boolean:
		return cmp.Or(value, "false")
	case number:
		return cmp.Or(value, "0")
	case list:
		var quoted []string
		for v := range strings.SplitSeq(value, ",") {
			if v != "" {
				quoted = append(quoted, strconv.Quote(v))
			}
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return strconv.Quote(value)
}

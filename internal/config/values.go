package config

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Path is the name of a file or folder. A leading "~/" stands for the user's
// home folder.
type Path string

// UnmarshalText expands a leading "~/".
func (p *Path) UnmarshalText(b []byte) error {
	rest, ok := strings.CutPrefix(string(b), "~/")
	if !ok {
		*p = Path(b)
		return nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("path %q: %w", b, err)
	}
	*p = Path(filepath.Join(home, rest))
	return nil
}

func (p Path) String() string { return string(p) }

// Bytes is a size in bytes.
type Bytes int64

// units in the order in which they are tried: the longer suffix first.
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// UnmarshalText reads "64 MiB", "2GB", "4096 B" or "0". Other bare numbers are
// refused, as it is not plain what they count.
func (n *Bytes) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if s == "0" {
		*n = 0
		return nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/u.bytes {
			break
		}
		*n = Bytes(v * u.bytes)
		return nil
	}
	return fmt.Errorf("size %q: want a whole number with a unit, such as \"64 MiB\" or \"2 GB\"", b)
}

func (n Bytes) String() string {
	for _, u := range []int{3, 2, 1, 0} { // TiB to KiB
		if v := int64(n); v != 0 && v%units[u].bytes == 0 {
			return strconv.FormatInt(v/units[u].bytes, 10) + " " + units[u].suffix
		}
	}
	return strconv.FormatInt(int64(n), 10) + " B"
}

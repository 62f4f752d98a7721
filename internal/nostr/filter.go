package nostr

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"htlcdash"
)

// Bounds of what a subscription may ask.
const (
	MaxFilters = 8   // of a subscription
	MaxListed  = 256 // values of one list of a filter
	MaxSubID   = 64  // bytes of a subscription's name
)

// A Filter says which events are wanted: those that match all that it names. A
// nil list matches everything, an empty one nothing.
type Filter struct {
	IDs     []ID
	Authors []Key
	Kinds   []int
	Tags    map[string][]string // by the tag's name, one letter
	Since   int64               // Unix seconds, included; 0: no bound
	Until   int64               // the same; below 0: nothing matches
	Limit   int                 // of stored events, the newest; 0: as many as the relay gives, below 0: none
}

// Matches reports whether f wants e. Limit does not count.
func (f Filter) Matches(e Event) bool {
	if f.IDs != nil && !slices.Contains(f.IDs, e.ID) || f.Authors != nil && !slices.Contains(f.Authors, e.PubKey) ||
		f.Kinds != nil && !slices.Contains(f.Kinds, e.Kind) || e.CreatedAt < f.Since || f.Until != 0 && e.CreatedAt > f.Until {
		return false
	}
	for name, wanted := range f.Tags {
		if !slices.ContainsFunc(e.Tags, func(t Tag) bool {
			return t[0] == name && len(t) > 1 && slices.Contains(wanted, t[1])
		}) {
			return false
		}
	}
	return true
}

// matchesAny reports whether one of filters wants e.
func matchesAny(filters []Filter, e Event) bool {
	return slices.ContainsFunc(filters, func(f Filter) bool { return f.Matches(e) })
}

// MarshalJSON gives the form of NIP-01.
func (f Filter) MarshalJSON() ([]byte, error) {
	m := map[string]any{}
	if f.IDs != nil {
		m["ids"] = f.IDs
	}
	if f.Authors != nil {
		m["authors"] = f.Authors
	}
	if f.Kinds != nil {
		m["kinds"] = f.Kinds
	}
	for name, values := range f.Tags {
		m["#"+name] = values
	}
	if f.Since != 0 {
		m["since"] = f.Since
	}
	if f.Until != 0 {
		m["until"] = max(f.Until, 0)
	}
	if f.Limit != 0 {
		m["limit"] = max(f.Limit, 0)
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads the form of NIP-01. Members that it does not know are
// ignored. The error matches [htlcdash.ErrFormat].
func (f *Filter) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return fmt.Errorf("filter is no object: %w", htlcdash.ErrFormat)
	}
	*f = Filter{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := f.read(name, m[name]); err != nil {
			return fmt.Errorf("filter: %.32q: %w: %w", name, err, htlcdash.ErrFormat)
		}
	}
	return nil
}

func (f *Filter) read(name string, b []byte) (err error) {
	switch {
	case name == "ids":
		f.IDs, err = values[ID](b)
	case name == "authors":
		f.Authors, err = values[Key](b)
	case name == "kinds":
		f.Kinds, err = values[int](b)
	case name == "since":
		err = json.Unmarshal(b, &f.Since)
	case name == "until":
		f.Until, err = number(b)
	case name == "limit":
		var n int64
		n, err = number(b)
		f.Limit = int(min(n, 1<<30))
	case len(name) == 2 && name[0] == '#':
		if f.Tags == nil {
			f.Tags = map[string][]string{}
		}
		f.Tags[name[1:]], err = values[string](b)
	}
	return err
}

// number reads a number of which 0 has a meaning, as one below 0.
func number(b []byte) (n int64, err error) {
	if err := json.Unmarshal(b, &n); err != nil {
		return 0, err
	}
	if n <= 0 {
		n = -1
	}
	return n, nil
}

func values[T any](b []byte) (out []T, err error) {
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, fmt.Errorf("no list")
	}
	if len(out) > MaxListed {
		return nil, fmt.Errorf("%d values, at most %d", len(out), MaxListed)
	}
	return out, nil
}

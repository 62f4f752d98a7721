// Package titles has a few real titles as an agent sees them: durations, sizes,
// prices and measured qualities of their segments, without the media. Tests and
// the simulator play them anywhere.
//
// README.md says what they are, whose, and how they were made.
package titles

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"htlcdash/agent"
)

//go:embed *.json
var files embed.FS

// Names are the titles that there are, sorted.
func Names() (names []string) {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("titles: " + err.Error())
	}
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}

// Get returns a title by its name. It panics if there is none: the names are
// those of [Names].
func Get(name string) *agent.Title {
	b, err := files.ReadFile(name + ".json")
	if err != nil {
		panic("titles: " + err.Error())
	}
	t, err := agent.ParseTitle(b)
	if err != nil {
		panic(fmt.Sprintf("titles: %s: %v", name, err))
	}
	return t
}

// Repeat returns a title that plays t several times over. Each time all keys
// are to be bought anew: it stands for a longer title of the same kind.
func Repeat(t *agent.Title, times int) *agent.Title {
	out := &agent.Title{Name: t.Name}
	for _, track := range t.Tracks {
		long := agent.Track{Kind: track.Kind}
		for k := range times {
			for _, s := range track.Segments {
				s.Rungs = slices.Clone(s.Rungs)
				for r := range s.Rungs {
					s.Rungs[r].First += k * len(track.Segments)
				}
				long.Segments = append(long.Segments, s)
			}
		}
		out.Tracks = append(out.Tracks, long)
	}
	return out
}

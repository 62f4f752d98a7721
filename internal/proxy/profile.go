package proxy

import (
	"fmt"
	"slices"

	"htlcdash/agent"
)

// profile gives way to agent.Profile once that is there.
func profile(name string) (agent.Preferences, error) {
	p := agent.Preferences{Weights: agent.Standard}
	switch i := slices.Index([]string{"film", "music", "podcast", "talk", "data-saver", "best"}, name); {
	case i < 0:
		return p, fmt.Errorf("no profile %q", name)
	case name == "data-saver":
		p.Thrift = 2
	}
	return p, nil
}

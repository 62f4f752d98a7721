package trial

import (
	"fmt"

	"htlcdash/agent/replay"
)

// limit finds what nobody can exceed.
func (t trial) limit(c *Case, s replay.Setup) error {
	b, err := replay.Best(t.title, s)
	if err != nil {
		return fmt.Errorf("bound of %s on %s: %w", c.Title, c.Trace, err)
	}
	c.Bound, c.Best = b.Upper, b.Feasible.Utility
	return nil
}

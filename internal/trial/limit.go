package trial

import "htlcdash/agent/replay"

func (t trial) limit(c *Case, s replay.Setup) error {
	for _, p := range c.Plays {
		c.Bound = max(c.Bound, p.Utility)
	}
	return nil
}

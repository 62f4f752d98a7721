package mirror

import (
	"fmt"

	"htlcdash"
)

// A Carry says which titles are copied. The zero value copies none.
type Carry struct {
	all bool
	ids map[[32]byte]bool // of titles and publishers, which never meet
}

// ParseCarry reads "all", and ids of titles and of publishers, 64 hexadecimal
// digits each.
func ParseCarry(list []string) (Carry, error) {
	c := Carry{ids: map[[32]byte]bool{}}
	for _, s := range list {
		if s == "all" {
			c.all = true
			continue
		}
		id, err := htlcdash.ParseRoot(s)
		if err != nil {
			return Carry{}, fmt.Errorf("%.80q: want \"all\", or the id of a title or of a publisher, 64 hexadecimal digits", s)
		}
		c.ids[id] = true
	}
	return c, nil
}

// Wants reports whether a title of a publisher is to be copied.
func (c Carry) Wants(id htlcdash.TitleID, by htlcdash.PublisherID) bool {
	return c.all || c.ids[id] || c.ids[by]
}

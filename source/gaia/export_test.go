package gaia

import "net/url"

var ParseInfo = parseInfo

// Told is what happens when the hub names its read side.
func (p *Place) Told(read string) error {
	u, err := url.Parse(read)
	if err != nil {
		return err
	}
	w, err := p.open(u)
	p.info, p.reader = &info{Read: u}, w
	return err
}

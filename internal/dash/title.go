package dash

import (
	"strings"
	"unicode"

	"github.com/beevik/etree"
)

// maxTitle bounds a title, in characters.
const maxTitle = 200

// Title returns what people call the presentation, on one line and not longer
// than 200 characters; empty if the MPD does not say.
func (m *Manifest) Title() string {
	if info := m.tree.first(m.tree.root, "ProgramInformation"); info != nil {
		if e := m.tree.first(info, "Title"); e != nil {
			return line(e.Text())
		}
	}
	return ""
}

// WithTitle returns m with another title, as [Parse] would: not resolved.
func (m *Manifest) WithTitle(title string) (*Manifest, error) {
	c := m.tree.copy()
	info := c.first(c.root, "ProgramInformation")
	if info == nil {
		info = etree.NewElement("ProgramInformation")
		c.insert(c.root, info)
	}
	e := c.first(info, "Title")
	if e == nil {
		e = etree.NewElement("Title")
		c.insert(info, e)
	}
	e.SetText(line(title))
	b, err := c.bytes()
	if err != nil {
		return nil, err
	}
	return Parse(b)
}

// line makes what a stranger wrote fit for one line of a page.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r): // also what turns the direction of writing
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	r := []rune(strings.Join(strings.Fields(s), " "))
	return strings.TrimSpace(string(r[:min(len(r), maxTitle)]))
}

package dash

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"regexp"
	"strings"

	"github.com/beevik/etree"

	"htlcdash"
)

const (
	nsMPD   = "urn:mpeg:dash:schema:mpd:2011"
	nsXLink = "http://www.w3.org/1999/xlink"
)

// A tree is an MPD as XML. Go's reader neither resolves namespaces for etree
// nor insists on one root, so the tree does.
type tree struct {
	doc     *etree.Document
	root    *etree.Element
	foreign map[*etree.Element]string // namespace of each element that is not of DASH
}

// readTree parses an MPD and refuses what makes it ambiguous or unbounded.
func readTree(b []byte) (*tree, error) {
	if len(b) > MaxSize {
		return nil, malformed("MPD of %d bytes, at most %d are read: use SegmentTemplate in place of lists", len(b), MaxSize)
	}
	if bytes.Count(b, []byte("<")) > maxTags || bytes.Count(b, []byte("=")) > maxAttrs {
		return nil, malformed("MPD has too many elements or attributes: use SegmentTemplate in place of lists")
	}
	doc := etree.NewDocument()
	doc.ReadSettings = etree.ReadSettings{
		CharsetReader:          onlyUTF8,
		PreserveCData:          true,
		PreserveDuplicateAttrs: true, // to find them, and since dropping them takes quadratic time
		MaxDepth:               maxDepth,
	}
	doc.WriteSettings.CanonicalText = true
	if err := doc.ReadFromBytes(b); err != nil {
		return nil, malformed("MPD is not XML: %v", err)
	}
	t, err := newTree(doc)
	if err == nil && bytes.Contains(b, []byte("&#")) && blankRef.Match(b) {
		err = noBreaks(t.root)
	}
	return t, err
}

// blankRef is what looks like an attribute with a reference to a tab or a line
// break.
var blankRef = regexp.MustCompile(`=\s*("[^"<]*|'[^'<]*)&#(0*(9|10|13)|x0*[9aAdD]);`)

// noBreaks refuses attributes with such characters. Go's reader does not tell
// those that are written as references, and mean what they say, from others,
// which mean a blank: so they would not survive a rewrite.
func noBreaks(e *etree.Element) error {
	for _, a := range e.Attr {
		if strings.ContainsAny(a.Value, "\t\r\n") {
			return malformed("%s@%s has a tab or a line break: write a blank", e.Tag, a.FullKey())
		}
	}
	for _, c := range e.ChildElements() {
		if err := noBreaks(c); err != nil {
			return err
		}
	}
	return nil
}

func onlyUTF8(charset string, in io.Reader) (io.Reader, error) {
	if strings.EqualFold(charset, "us-ascii") {
		return in, nil
	}
	return nil, fmt.Errorf("encoding %q: save it as UTF-8", charset)
}

func newTree(doc *etree.Document) (*tree, error) {
	t := &tree{doc: doc, foreign: map[*etree.Element]string{}}
	for _, token := range doc.Child {
		switch x := token.(type) {
		case *etree.Element:
			if t.root != nil {
				return nil, malformed("MPD has two root elements, %s and %s", t.root.Tag, x.Tag)
			}
			t.root = x
		case *etree.Directive:
			return nil, errDoctype
		case *etree.CharData:
			if strings.Trim(x.Data, "\ufeff \t\r\n") != "" {
				return nil, malformed("MPD has text outside its root element")
			}
		}
	}
	if t.root == nil {
		return nil, malformed("MPD has no root element")
	}
	if err := t.check(t.root, scope{}); err != nil {
		return nil, err
	}
	if t.root.Tag != "MPD" || t.foreign[t.root] != "" {
		return nil, malformed("root element is %s, want MPD in namespace %s", t.root.FullTag(), nsMPD)
	}
	return t, nil
}

var errDoctype = malformed("MPD has a DOCTYPE: remove it, entities are not read")

// scope maps prefixes to namespaces.
type scope map[string]string

// check walks e and its descendants: it notes what is foreign, and refuses
// what parsers understand in different ways.
func (t *tree) check(e *etree.Element, ns scope) error {
	if len(e.Attr) > maxElementAttrs {
		return malformed("element %s has %d attributes", e.Tag, len(e.Attr))
	}
	ns = ns.with(e.Attr)
	for i, a := range e.Attr {
		for _, b := range e.Attr[:i] {
			if a.Key == b.Key && a.Space == b.Space {
				return malformed("element %s has attribute %s twice", e.Tag, a.FullKey())
			}
		}
		if a.Key == "href" && ns[a.Space] == nsXLink {
			return malformed("element %s is remote (xlink:href): put its content into the MPD", e.Tag)
		}
	}
	if space := ns[e.Space]; space != nsMPD {
		t.foreign[e] = cmp.Or(space, "none")
	}
	for _, token := range e.Child {
		switch x := token.(type) {
		case *etree.Element:
			if err := t.check(x, ns); err != nil {
				return err
			}
		case *etree.Directive:
			return errDoctype
		}
	}
	return nil
}

// with returns s and what attrs declare.
func (s scope) with(attrs []etree.Attr) scope {
	out := s
	for _, a := range attrs {
		prefix, ok := declares(a)
		if !ok {
			continue
		}
		if len(out) == len(s) {
			out = maps.Clone(s)
		}
		out[prefix] = a.Value
	}
	return out
}

// declares returns the prefix that a declares a namespace for.
func declares(a etree.Attr) (prefix string, ok bool) {
	if a.Space == "" && a.Key == "xmlns" {
		return "", true
	}
	return a.Key, a.Space == "xmlns"
}

// is reports whether e is an element of DASH with that name.
func (t *tree) is(e *etree.Element, tag string) bool {
	return e.Tag == tag && t.foreign[e] == ""
}

// all yields the child elements of e that are DASH's and have that name.
func (t *tree) all(e *etree.Element, tag string) iter.Seq[*etree.Element] {
	return func(yield func(*etree.Element) bool) {
		for _, token := range e.Child {
			if c, ok := token.(*etree.Element); ok && t.is(c, tag) && !yield(c) {
				return
			}
		}
	}
}

// first returns the first of them, or nil.
func (t *tree) first(e *etree.Element, tag string) *etree.Element {
	for c := range t.all(e, tag) {
		return c
	}
	return nil
}

// ours yields the child elements of e in our namespace with that name.
func (t *tree) ours(e *etree.Element, tag string) iter.Seq[*etree.Element] {
	return func(yield func(*etree.Element) bool) {
		for _, token := range e.Child {
			if c, ok := token.(*etree.Element); ok && c.Tag == tag && t.foreign[c] == Namespace && !yield(c) {
				return
			}
		}
	}
}

// copy returns a tree of its own, to be changed.
func (t *tree) copy() *tree {
	c, err := newTree(t.doc.Copy())
	if err != nil {
		panic("dash: copy of a checked tree: " + err.Error())
	}
	return c
}

func (t *tree) bytes() ([]byte, error) {
	b, err := t.doc.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("write MPD: %w", err)
	}
	return b, nil
}

// insert puts e among the children of parent, behind the last one whose name
// is in after, else in front of all, and indents it like its neighbour.
func (t *tree) insert(parent, e *etree.Element, after ...string) {
	at, indent := 0, ""
	for i, token := range parent.Child {
		c, ok := token.(*etree.Element)
		if !ok {
			continue
		}
		if indent == "" || isOneOf(t, c, after) {
			indent = spaceBefore(parent, i)
		}
		if isOneOf(t, c, after) {
			at = i + 1
		}
	}
	setPrefix(e, parent.Space)
	parent.InsertChildAt(at, e)
	if indent != "" {
		parent.InsertChildAt(at, etree.NewText(indent))
	}
}

// setPrefix gives e and its descendants the prefix of DASH, where they have none.
func setPrefix(e *etree.Element, prefix string) {
	if e.Space == "" {
		e.Space = prefix
	}
	for _, c := range e.ChildElements() {
		setPrefix(c, prefix)
	}
}

func isOneOf(t *tree, e *etree.Element, tags []string) bool {
	for _, tag := range tags {
		if t.is(e, tag) {
			return true
		}
	}
	return false
}

// remove takes e out, with the white space in front of it.
func remove(e *etree.Element) {
	parent, i := e.Parent(), e.Index()
	parent.RemoveChildAt(i)
	if spaceBefore(parent, i) != "" {
		parent.RemoveChildAt(i - 1)
	}
}

// spaceBefore returns the white space in front of child i.
func spaceBefore(parent *etree.Element, i int) string {
	if i == 0 {
		return ""
	}
	if text, ok := parent.Child[i-1].(*etree.CharData); ok && !text.IsCData() && text.IsWhitespace() {
		return text.Data
	}
	return ""
}

// attr returns an attribute without a prefix.
func attr(e *etree.Element, name string) (string, bool) {
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value, true
		}
	}
	return "", false
}

// malformed returns an error that matches htlcdash.ErrFormat.
func malformed(format string, args ...any) error {
	return formatError{fmt.Sprintf(format, args...)}
}

// formatError reads better than a wrapped sentinel: messages here are long
// sentences already.
type formatError struct{ text string }

func (e formatError) Error() string        { return e.text }
func (e formatError) Is(target error) bool { return target == htlcdash.ErrFormat }

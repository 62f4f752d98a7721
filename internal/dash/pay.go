package dash

import (
	"encoding/base64"
	"errors"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/beevik/etree"

	"htlcdash"
	"htlcdash/lightning"
)

// Namespace is the namespace of our extension, and its schemeIdUri
// (spec/03-mpd.md).
const Namespace = "urn:htlcdash:pay:2026"

const version = "2"

// Bounds of the extension.
const (
	MaxRuns      = 256 // price runs of a Representation; more stand in the seal list only
	MaxProviders = 64  // addresses in an MPD
	MaxSources   = 16  // addresses of sealed bytes in an MPD

	maxAddress = 512 // bytes of one of them
)

// Pay is what the title says of one Representation.
type Pay struct {
	List       string            // path of the seal list, relative to the MPD whatever BaseURL says
	ListRoot   htlcdash.ListRoot // root of the seal list
	InitDigest [32]byte          // SHA-256 of Init; zero without an init segment
	InfoHash   [32]byte          // BitTorrent v2 infohash of the segments' torrent; zero: none
	Count      int               // segments
	Total      lightning.Msat    // price of all keys
	Max        lightning.Msat    // price of the dearest key
	Runs       []PriceRun        // prices in order; nil if there would be more than [MaxRuns]
}

// A PriceRun is consecutive keys of one price that open as many segments each.
type PriceRun struct {
	Count int            // keys, at least 1
	Opens int            // segments that each opens, at least 1
	Price lightning.Msat // of each key
}

// titlePay is what our extension says at the level of the MPD.
type titlePay struct {
	publisher *htlcdash.PublisherID
	places    Places
}

// Places are the first addresses of a title, not all: http or https, without
// user, query and fragment.
type Places struct {
	Providers []string // where it is sold
	Sources   []string // below which its sealed bytes lie, for nothing
}

// Publisher returns the publisher that the MPD names. That proves nothing
// until the publisher's signature over the MPD verifies.
func (m *Manifest) Publisher() (htlcdash.PublisherID, bool) {
	if m.pay.publisher == nil {
		return htlcdash.PublisherID{}, false
	}
	return *m.pay.publisher, true
}

// Providers returns the first addresses where the title is sold.
func (m *Manifest) Providers() []string { return m.pay.places.Providers }

// Sources returns addresses below which the title's sealed bytes lie. They are a
// stranger's words: who follows them keeps out of private networks.
func (m *Manifest) Sources() []string { return m.pay.places.Sources }

// PriceRange returns what the whole title costs on its cheapest and on its
// dearest Representations, one of each kind (video, audio, text) a Period;
// nothing without our extension.
func (m *Manifest) PriceRange() (cheapest, dearest lightning.Msat) {
	type kind struct {
		period  int
		content string
	}
	low, high := map[kind]lightning.Msat{}, map[kind]lightning.Msat{}
	for _, rep := range m.reps {
		if rep.Pay == nil {
			continue
		}
		k := kind{rep.Period, rep.ContentType}
		if p, ok := low[k]; !ok || rep.Pay.Total < p {
			low[k] = rep.Pay.Total
		}
		high[k] = max(high[k], rep.Pay.Total)
	}
	for k := range low {
		cheapest += low[k]
		dearest += high[k]
	}
	return cheapest, dearest
}

// payments reads our extension: all of it, or none.
func (p *parser) payments() error {
	own, err := p.property(p.root)
	if err != nil {
		return err
	}
	if own != nil {
		if err := p.title(own); err != nil {
			return err
		}
	}
	for _, r := range p.m.reps {
		e, err := p.property(r.element)
		if err != nil {
			return r.wrap(err)
		}
		if (e == nil) != (own == nil) {
			return r.wrap(malformed("payment extension: it must stand at the MPD and at every Representation, or nowhere"))
		}
		if e == nil {
			continue
		}
		if r.Pay, err = p.pay(e); err != nil {
			return r.wrap(err)
		}
		if err := r.Pay.fits(r); err != nil {
			return r.wrap(err)
		}
	}
	return nil
}

// property returns our SupplementalProperty below e, if there is one.
func (t *tree) property(e *etree.Element) (found *etree.Element, err error) {
	for _, token := range e.Child {
		c, ok := token.(*etree.Element)
		if !ok || !t.isDescriptor(c) {
			continue
		}
		if c.Tag != "SupplementalProperty" {
			return nil, malformed("payment extension: it is a SupplementalProperty, not %s", c.Tag)
		}
		if found != nil {
			return nil, malformed("payment extension stands twice in %s", e.Tag)
		}
		if v, _ := attr(c, "value"); v != version {
			return nil, malformed("payment extension: version %q, this program knows %s: publish the title again", clip(v), version)
		}
		found = c
	}
	return found, nil
}

// isDescriptor reports whether e is a descriptor of our scheme.
func (t *tree) isDescriptor(e *etree.Element) bool {
	if t.foreign[e] != "" {
		return false
	}
	scheme, _ := attr(e, "schemeIdUri")
	return scheme == Namespace
}

func (p *parser) title(property *etree.Element) error {
	for e := range p.ours(property, "Publisher") {
		text, _ := attr(e, "key")
		id, err := htlcdash.ParsePublisherID(text)
		if err != nil {
			return err
		}
		if p.m.pay.publisher != nil {
			return malformed("payment extension names two publishers")
		}
		p.m.pay.publisher = &id
	}
	if p.m.pay.publisher == nil {
		return malformed("payment extension names no publisher")
	}
	for e := range p.ours(property, "Provider") {
		text, _ := attr(e, "url")
		p.m.pay.places.Providers = append(p.m.pay.places.Providers, text)
	}
	for e := range p.ours(property, "Source") {
		text, _ := attr(e, "url")
		p.m.pay.places.Sources = append(p.m.pay.places.Sources, text)
	}
	return p.m.pay.places.check()
}

func (p Places) check() error {
	return errors.Join(
		checkAddresses("provider", p.Providers, MaxProviders),
		checkAddresses("source", p.Sources, MaxSources),
	)
}

func checkAddresses(what string, addresses []string, most int) error {
	if len(addresses) > most {
		return malformed("%d %ss, at most %d", len(addresses), what, most)
	}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil || len(a) > maxAddress || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return malformed("%s %q: want http(s)://host[:port][/path]", what, clip(a))
		}
	}
	return nil
}

// pay reads what stands at one Representation.
func (p *parser) pay(property *etree.Element) (*Pay, error) {
	var found *etree.Element
	for e := range p.ours(property, "Segments") {
		if found != nil {
			return nil, malformed("payment extension has Segments twice")
		}
		found = e
	}
	if found == nil {
		return nil, malformed("payment extension has no Segments")
	}
	pay, err := readSegments(found)
	if err != nil {
		return nil, err
	}
	for e := range p.ours(found, "P") {
		run, err := readRun(e)
		if err != nil {
			return nil, err
		}
		if pay.Runs = append(pay.Runs, run); len(pay.Runs) > MaxRuns {
			return nil, malformed("more than %d price runs", MaxRuns)
		}
	}
	return pay, pay.check()
}

func readSegments(e *etree.Element) (*Pay, error) {
	pay := &Pay{}
	ref, _ := attr(e, "list")
	var err error
	if pay.List, err = cleanPath(ref); err != nil {
		return nil, err
	}
	if pay.ListRoot, err = digestAttr(e, "listRoot"); err != nil {
		return nil, err
	}
	if _, ok := attr(e, "initDigest"); ok {
		if pay.InitDigest, err = digestAttr(e, "initDigest"); err != nil {
			return nil, err
		}
	}
	if _, ok := attr(e, "infoHash"); ok {
		if pay.InfoHash, err = digestAttr(e, "infoHash"); err != nil {
			return nil, err
		}
	}
	count, err := uintAttr(e, "count", 0, htlcdash.MaxSegments)
	if err != nil {
		return nil, err
	}
	pay.Count = int(count)
	if pay.Total, err = msatAttr(e, "total", math.MaxInt64); err != nil {
		return nil, err
	}
	pay.Max, err = msatAttr(e, "max", htlcdash.MaxPrice)
	return pay, err
}

func readRun(e *etree.Element) (run PriceRun, err error) {
	if run.Price, err = msatAttr(e, "msat", htlcdash.MaxPrice); err != nil {
		return run, err
	}
	r, err := uintAttr(e, "r", 0, htlcdash.MaxSegments)
	if err != nil {
		return run, err
	}
	n, err := uintAttr(e, "n", 1, htlcdash.MaxSegments)
	run.Count, run.Opens = int(r)+1, int(n)
	return run, err
}

func msatAttr(e *etree.Element, name string, limit lightning.Msat) (lightning.Msat, error) {
	if _, ok := attr(e, name); !ok {
		return 0, malformed("%s@%s is missing", e.Tag, name)
	}
	n, err := uintAttr(e, name, 0, uint64(limit))
	return lightning.Msat(n), err
}

// Digests carry their algorithm in front, as in Subresource Integrity. It also
// keeps dash.js from reading one as a number.
const digestPrefix = "sha256-"

func digestAttr(e *etree.Element, name string) (d [32]byte, err error) {
	text, _ := attr(e, name)
	encoded, ok := strings.CutPrefix(text, digestPrefix)
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(b) != len(d) || strings.ContainsAny(encoded, "\r\n") {
		return d, malformed("%s@%s=%q: want %s and base64 of 32 bytes", e.Tag, name, clip(text), digestPrefix)
	}
	return [32]byte(b), nil
}

// check says whether p agrees with itself.
func (p *Pay) check() error {
	if p.Count < 1 || p.Count > htlcdash.MaxSegments {
		return malformed("payment extension: %d segments", p.Count)
	}
	if p.Max < 0 || p.Max > htlcdash.MaxPrice || p.Total < p.Max || p.Total > p.Max*lightning.Msat(p.Count) {
		return malformed("payment extension: keys of at most %[2]d msat for %[1]d segments cannot cost %[3]d msat", p.Count, p.Max, p.Total)
	}
	if len(p.Runs) > MaxRuns {
		return malformed("payment extension: %d price runs, at most %d", len(p.Runs), MaxRuns)
	}
	if len(p.Runs) == 0 {
		return nil
	}
	var sum Pay
	for _, run := range p.Runs {
		left := p.Count - sum.Count
		if run.Opens < 1 || run.Opens > left || run.Count < 1 || run.Count > left/run.Opens || run.Price < 0 || run.Price > p.Max {
			return malformed("payment extension: its price runs do not agree with count or max")
		}
		sum.Count += run.Count * run.Opens
		sum.Total += run.Price * lightning.Msat(run.Count)
		sum.Max = max(sum.Max, run.Price)
	}
	if sum.Count != p.Count || sum.Total != p.Total || sum.Max != p.Max {
		return malformed("payment extension: its price runs do not agree with count, total and max")
	}
	return nil
}

// fits says whether p is about the segments of r. Before [Manifest.Resolve]
// nothing is known of on-demand ones.
func (p *Pay) fits(r *Representation) error {
	if p != nil && r.Segments != nil && p.Count != len(r.Segments) {
		return malformed("payment extension: it has %d segments, the MPD %d", p.Count, len(r.Segments))
	}
	return nil
}

// Extend returns the MPD with our extension in place of any it had: the bytes
// to sign. Pays must name every Representation by its ID, and m must be
// resolved. The same input gives the same bytes. The error matches [htlcdash.ErrFormat].
func (m *Manifest) Extend(publisher htlcdash.PublisherID, places Places, pays map[string]Pay) ([]byte, error) {
	if err := m.Publishable(); err != nil {
		return nil, err
	}
	for _, r := range m.reps {
		if r.Segments == nil {
			return nil, r.wrap(malformed("its index was not read"))
		}
	}
	if err := places.check(); err != nil {
		return nil, err
	}
	for id := range pays {
		if !m.has(id) {
			return nil, malformed("no Representation %q to extend", clip(id))
		}
	}
	c, elements := m.copy()
	c.removeProperties(c.root)
	c.insert(c.root, titleProperty(publisher, places), beforeTitleProperty...)
	for i, r := range m.reps {
		pay, ok := pays[r.ID]
		if !ok {
			return nil, r.wrap(malformed("nothing to extend it with"))
		}
		if err := pay.valid(r); err != nil {
			return nil, r.wrap(err)
		}
		c.removeProperties(elements[i])
		c.insert(elements[i], segmentsProperty(pay), beforeProperty...)
	}
	return c.bytes()
}

// What stands in front of SupplementalProperty in the schema.
var (
	beforeTitleProperty = []string{
		"ProgramInformation", "BaseURL", "Location", "PatchLocation", "ServiceDescription", "InitializationSet",
		"InitializationGroup", "InitializationPresentation", "ContentProtection", "Period", "Metrics", "EssentialProperty",
	}
	beforeProperty = []string{"FramePacking", "AudioChannelConfiguration", "ContentProtection", "OutputProtection", "EssentialProperty"}
)

func (m *Manifest) has(id string) bool {
	for _, r := range m.reps {
		if r.ID == id {
			return true
		}
	}
	return false
}

// valid says whether p can be written for r.
func (p *Pay) valid(r *Representation) error {
	if clean, err := cleanPath(encode(p.List)); err != nil || clean != p.List {
		return malformed("seal list %q: want a clean relative path", clip(p.List))
	}
	if (r.Init.Path == "") != (p.InitDigest == [32]byte{}) {
		return malformed("payment extension: a digest belongs to each init segment")
	}
	if err := p.check(); err != nil {
		return err
	}
	return p.fits(r)
}

// copy returns a tree to be changed, and the elements in it that belong to
// m.reps.
func (m *Manifest) copy() (*tree, []*etree.Element) {
	c := m.tree.copy()
	var elements []*etree.Element
	for per := range c.all(c.root, "Period") {
		for set := range c.all(per, "AdaptationSet") {
			for rep := range c.all(set, "Representation") {
				elements = append(elements, rep)
			}
		}
	}
	return c, elements
}

func (t *tree) removeProperties(e *etree.Element) {
	for _, c := range e.ChildElements() {
		if t.isDescriptor(c) {
			remove(c)
		}
	}
}

// newProperty is a SupplementalProperty that declares the prefix "pay" itself,
// so that it clashes with nothing and leaves nothing behind when it goes.
func newProperty() *etree.Element {
	e := etree.NewElement("SupplementalProperty")
	e.CreateAttr("xmlns:pay", Namespace)
	e.CreateAttr("schemeIdUri", Namespace)
	e.CreateAttr("value", version)
	return e
}

func titleProperty(publisher htlcdash.PublisherID, places Places) *etree.Element {
	e := newProperty()
	e.CreateElement("pay:Publisher").CreateAttr("key", publisher.String())
	for _, p := range places.Providers {
		e.CreateElement("pay:Provider").CreateAttr("url", p)
	}
	for _, s := range places.Sources {
		e.CreateElement("pay:Source").CreateAttr("url", s)
	}
	return e
}

func segmentsProperty(p Pay) *etree.Element {
	e := newProperty()
	s := e.CreateElement("pay:Segments")
	s.CreateAttr("count", strconv.Itoa(p.Count))
	s.CreateAttr("total", msat(p.Total))
	s.CreateAttr("max", msat(p.Max))
	s.CreateAttr("list", encode(p.List))
	s.CreateAttr("listRoot", digest(p.ListRoot))
	if p.InitDigest != [32]byte{} {
		s.CreateAttr("initDigest", digest(p.InitDigest))
	}
	if p.InfoHash != [32]byte{} {
		s.CreateAttr("infoHash", digest(p.InfoHash))
	}
	for _, run := range p.Runs {
		e := s.CreateElement("pay:P")
		e.CreateAttr("msat", msat(run.Price))
		if run.Opens > 1 {
			e.CreateAttr("n", strconv.Itoa(run.Opens))
		}
		if run.Count > 1 {
			e.CreateAttr("r", strconv.Itoa(run.Count-1))
		}
	}
	return e
}

func msat(m lightning.Msat) string { return strconv.FormatInt(int64(m), 10) }

func digest(d [32]byte) string { return digestPrefix + base64.StdEncoding.EncodeToString(d[:]) }

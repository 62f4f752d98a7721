package dash

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"
)

// PlayerOptions say what a stock player is told.
type PlayerOptions struct {
	MaxBandwidth int64 // bit/s of a video Representation (of audio, where there is no video); 0: no cap
	SoundOnly    bool  // leave the picture out of Periods that have sound
	CMCD         bool  // ask the player to report what it does (CTA-5004) in the query of each segment request

	// Keep tells which Representations stay; nil: all. Where none of an
	// AdaptationSet would, the one of least bandwidth does.
	Keep func(*Representation) bool
	// Order compares Representations of an AdaptationSet; what comes first, some
	// players take, and stay with it. nil: they stand as they are.
	Order func(a, b *Representation) int
}

// ForPlayer returns a copy of the MPD for a stock player that plays through a
// proxy in front of the title's files. What would lead it elsewhere is left
// out: absolute BaseURLs and alternatives, Location, ContentSteering, Metrics.
// All else stays as it was.
func (m *Manifest) ForPlayer(o PlayerOptions) ([]byte, error) {
	c, elements := m.copy()
	c.keepHome()
	kind := m.capped()
	sets := m.sets(elements)
	if o.SoundOnly {
		sets = withoutPicture(sets)
	}
	for _, reps := range sets {
		reps = trim(reps, o.Keep)
		if o.Order != nil {
			order(reps, o.Order)
		}
	}
	if o.CMCD || o.MaxBandwidth > 0 {
		c.removeServiceDescriptions()
		c.insert(c.root, serviceDescription(o, kind), "ProgramInformation", "BaseURL", "Location", "PatchLocation", "ServiceDescription")
	}
	return c.bytes()
}

// keepHome removes what leads a player away from the proxy.
func (t *tree) keepHome() {
	for _, e := range t.root.ChildElements() {
		switch {
		case t.foreign[e] != "":
		case e.Tag == "Location", e.Tag == "PatchLocation", e.Tag == "ContentSteering", e.Tag == "Metrics":
			remove(e)
		case e.Tag == "ServiceDescription":
			for _, steering := range slices.Collect(t.all(e, "ContentSteering")) {
				remove(steering)
			}
		}
	}
	t.oneBaseURL(t.root)
	for per := range t.all(t.root, "Period") {
		t.oneBaseURL(per)
		for set := range t.all(per, "AdaptationSet") {
			t.oneBaseURL(set)
			for rep := range t.all(set, "Representation") {
				t.oneBaseURL(rep)
			}
		}
	}
}

// oneBaseURL leaves the BaseURL that Parse has used.
func (t *tree) oneBaseURL(e *etree.Element) {
	found := false
	for _, b := range slices.Collect(t.all(e, "BaseURL")) {
		if found || isAbsolute(strings.TrimSpace(b.Text())) {
			remove(b)
			continue
		}
		found = true
	}
}

// capped is the kind of content that a cap is about.
func (m *Manifest) capped() string {
	for _, r := range m.reps {
		if r.ContentType == "video" {
			return "video"
		}
	}
	return "audio"
}

// A shown is a Representation and its element in a copy of the MPD.
type shown struct {
	rep     *Representation
	element *etree.Element
}

// sets gives the Representations of each AdaptationSet in document order.
// Elements belong to m.reps.
func (m *Manifest) sets(elements []*etree.Element) (sets [][]shown) {
	index := map[*etree.Element]int{}
	for i, r := range m.reps {
		set := elements[i].Parent()
		n, ok := index[set]
		if !ok {
			n = len(sets)
			index[set], sets = n, append(sets, nil)
		}
		sets[n] = append(sets[n], shown{r, elements[i]})
	}
	return sets
}

// withoutPicture removes the AdaptationSets of video of Periods that have sound,
// and returns the others.
func withoutPicture(sets [][]shown) (left [][]shown) {
	sounds := map[int]bool{}
	for _, set := range sets {
		sounds[set[0].rep.Period] = sounds[set[0].rep.Period] || set[0].rep.ContentType == "audio"
	}
	for _, set := range sets {
		if r := set[0].rep; r.ContentType == "video" && sounds[r.Period] {
			remove(set[0].element.Parent())
		} else {
			left = append(left, set)
		}
	}
	return left
}

// trim removes from one AdaptationSet what is not kept, and returns what is.
func trim(set []shown, keep func(*Representation) bool) (kept []shown) {
	if keep == nil {
		return set
	}
	for _, e := range set {
		if keep(e.rep) {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 {
		kept = []shown{slices.MinFunc(set, func(a, b shown) int { return cmp.Compare(a.rep.Bandwidth, b.rep.Bandwidth) })}
	}
	for _, e := range set {
		if !slices.Contains(kept, e) {
			remove(e.element)
		}
	}
	return kept
}

// order sorts the elements of one AdaptationSet.
func order(set []shown, compare func(a, b *Representation) int) {
	sorted := slices.SortedStableFunc(slices.Values(set), func(a, b shown) int { return compare(a.rep, b.rep) })
	waiting := slices.Clone(set)
	for _, e := range sorted {
		if first := waiting[0]; first != e {
			parent := first.element.Parent()
			parent.RemoveChild(e.element)
			parent.InsertChildAt(first.element.Index(), e.element)
		}
		waiting = slices.DeleteFunc(waiting, func(w shown) bool { return w == e })
	}
}

// removeServiceDescriptions removes those that dash.js would read in place of
// ours: without Scope, or with the one of DVB.
func (t *tree) removeServiceDescriptions() {
	for _, e := range slices.Collect(t.all(t.root, "ServiceDescription")) {
		scope := t.first(e, "Scope")
		if scope == nil {
			remove(e)
			continue
		}
		if uri, _ := attr(scope, "schemeIdUri"); uri == "urn:dvb:dash:lowlatency:scope:2019" {
			remove(e)
		}
	}
}

// cmcdKeys are what a proxy can use.
const cmcdKeys = "bl br bs d mtp nor nrr ot sid st su tb"

// serviceDescription has no Scope: dash.js reads it only so.
func serviceDescription(o PlayerOptions, kind string) *etree.Element {
	e := etree.NewElement("ServiceDescription")
	e.CreateAttr("id", "0")
	if o.MaxBandwidth > 0 {
		b := e.CreateElement("OperatingBandwidth")
		b.CreateAttr("mediaType", kind)
		b.CreateAttr("max", strconv.FormatInt(o.MaxBandwidth, 10))
	}
	if o.CMCD {
		p := e.CreateElement("ClientDataReporting").CreateElement("CMCDParameters")
		p.CreateAttr("version", "1")
		p.CreateAttr("schemeIdUri", "urn:mpeg:dash:cta-5004:2023")
		p.CreateAttr("mode", "query")
		p.CreateAttr("includeInRequests", "segment")
		p.CreateAttr("keys", cmcdKeys)
	}
	return e
}

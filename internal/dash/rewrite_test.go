package dash_test

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// canonical is what canonical XML keeps, a line for each token: names with
// their namespaces, attributes in order, text joined and unescaped. So two
// documents have the same lines if and only if they mean the same.
func canonical(t *testing.T, doc []byte) (lines []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(doc)))
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			lines = append(lines, fmt.Sprintf("text %q", text.String()))
			text.Reset()
		}
	}
	for {
		token, err := d.Token()
		if err == io.EOF {
			flush()
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			text.Write(data)
			continue
		}
		flush()
		switch x := token.(type) {
		case xml.StartElement:
			var attrs []string
			for _, a := range x.Attr {
				attrs = append(attrs, fmt.Sprintf("{%s}%s=%q", a.Name.Space, a.Name.Local, a.Value))
			}
			slices.Sort(attrs)
			lines = append(lines, fmt.Sprintf("<{%s}%s %s>", x.Name.Space, x.Name.Local, attrs))
		case xml.EndElement:
			lines = append(lines, fmt.Sprintf("</{%s}%s>", x.Name.Space, x.Name.Local))
		case xml.Comment:
			lines = append(lines, fmt.Sprintf("comment %q", x))
		case xml.ProcInst:
			lines = append(lines, fmt.Sprintf("instruction %s %q", x.Target, x.Inst))
		}
	}
}

// inserted removes from got the elements that we insert, and the white space
// in front of them.
func inserted(got []string, isOurs func(line string) bool) (rest []string) {
	depth := 0
	for _, line := range got {
		switch {
		case depth > 0 && strings.HasPrefix(line, "</"):
			depth--
		case depth > 0 && strings.HasPrefix(line, "<"):
			depth++
		case depth > 0:
		case isOurs(line):
			depth = 1
			if n := len(rest); n > 0 && strings.HasPrefix(rest[n-1], "text") && strings.Trim(rest[n-1], `tex "\nr`) == "" {
				rest = rest[:n-1]
			}
		default:
			rest = append(rest, line)
		}
	}
	return rest
}

// documents are the MPDs of testdata, and of HTLCDASH_MPDS, a pattern of folders.
func documents(t testing.TB) map[string][]byte {
	t.Helper()
	docs := map[string][]byte{}
	patterns := []string{"testdata/*.mpd"}
	if more := os.Getenv("HTLCDASH_MPDS"); more != "" {
		patterns = append(patterns, filepath.Join(more, "*.mpd"))
	}
	for _, p := range patterns {
		names, err := filepath.Glob(p)
		if err != nil || len(names) == 0 {
			t.Fatalf("no MPDs in %s: %v", p, err)
		}
		for _, name := range names {
			if docs[name], err = os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return docs
}

// pays makes terms for every Representation of m. One key opens two segments of
// sound.
func pays(m *dash.Manifest) map[string]dash.Pay {
	out := map[string]dash.Pay{}
	for _, r := range m.Representations() {
		p := dash.Pay{List: "seals/" + r.ID + ".seals", ListRoot: [32]byte{1}, Count: len(r.Segments)}
		if r.Init.Path != "" {
			p.InitDigest = [32]byte{2}
		}
		if r.ContentType != "audio" { // a torrent is optional
			p.InfoHash = [32]byte{3}
		}
		for i := range r.Segments {
			price := lightning.Msat(1000 * (i/2 + 1))
			if i%2 == 0 {
				p.Runs = append(p.Runs, dash.PriceRun{Price: price})
			}
			if run := &p.Runs[i/2]; r.ContentType == "audio" {
				run.Count, run.Opens = 1, run.Opens+1
			} else {
				run.Count, run.Opens = run.Count+1, 1
			}
			if i%2 == 0 || r.ContentType != "audio" {
				p.Total += price
			}
			p.Max = max(p.Max, price)
		}
		out[r.ID] = p
	}
	return out
}

func isProperty(line string) bool {
	return strings.HasPrefix(line, "<{urn:mpeg:dash:schema:mpd:2011}SupplementalProperty") && strings.Contains(line, dash.Namespace)
}

func isServiceDescription(line string) bool {
	return strings.HasPrefix(line, "<{urn:mpeg:dash:schema:mpd:2011}ServiceDescription")
}

func places() dash.Places {
	return dash.Places{
		Providers: []string{"https://provider.example:8443/films"},
		Sources:   []string{"https://films.s3.example/one", "http://read.example/hub/1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH/one"},
	}
}

func extend(t testing.TB, m *dash.Manifest) []byte {
	t.Helper()
	b, err := m.Extend(htlcdash.PublisherID{7}, places(), short(pays(m)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// short leaves out runs that are too many.
func short(pays map[string]dash.Pay) map[string]dash.Pay {
	for id, p := range pays {
		if len(p.Runs) > dash.MaxRuns {
			p.Runs = nil
			pays[id] = p
		}
	}
	return pays
}

func TestExtendChangesNothingElse(t *testing.T) {
	for name, doc := range documents(t) {
		t.Run(name, func(t *testing.T) {
			m := parse(t, string(doc))
			extended := extend(t, m)
			want, got := canonical(t, doc), canonical(t, extended)
			if len(inserted(got, func(string) bool { return false })) == len(want) {
				t.Fatal("nothing was inserted")
			}
			sameLines(t, inserted(got, isProperty), want)
			again := extend(t, parse(t, string(extended)))
			if string(again) != string(extended) {
				t.Error("extending twice gives other bytes")
			}
		})
	}
}

func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d:\ngot  %q\nwant %q", i, got[min(i, len(got)):min(i+2, len(got))], want[min(i, len(want)):min(i+2, len(want))])
		}
	}
}

func TestForPlayerChangesNothingElse(t *testing.T) {
	isOurs := func(line string) bool { return isServiceDescription(line) || isProperty(line) }
	for name, doc := range documents(t) {
		t.Run(name, func(t *testing.T) {
			m := parse(t, string(extend(t, parse(t, string(doc)))))
			plain, err := m.ForPlayer(dash.PlayerOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sameLines(t, inserted(canonical(t, plain), isProperty), canonical(t, doc))
			told, err := m.ForPlayer(dash.PlayerOptions{MaxBandwidth: 1, CMCD: true})
			if err != nil {
				t.Fatal(err)
			}
			sameLines(t, inserted(canonical(t, told), isOurs), inserted(canonical(t, doc), isOurs))
			if got, want := describe(parse(t, string(told))), describe(m); got != want {
				t.Errorf("the copy names\n%s\nthe MPD\n%s", got, want)
			}
		})
	}
}

func forPlayer(t *testing.T, mpd string, o dash.PlayerOptions) string {
	t.Helper()
	b, err := parse(t, mpd).ForPlayer(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestForPlayerKeepsThePlayerHome(t *testing.T) {
	got := forPlayer(t, head+`<BaseURL>http://a.example/</BaseURL><BaseURL>b/</BaseURL><BaseURL>c/</BaseURL><Location>http://d.example/</Location>
		<PatchLocation>http://e.example/</PatchLocation><ServiceDescription><Scope schemeIdUri="urn:x"/><ContentSteering>http://f.example/</ContentSteering></ServiceDescription>
		<Period><BaseURL>//g.example/</BaseURL><AdaptationSet><BaseURL>/h/</BaseURL>`+rep+`<BaseURL>HTTP://i.example</BaseURL><BaseURL>j</BaseURL></Representation></AdaptationSet></Period>
		<Metrics metrics="x"><Reporting schemeIdUri="urn:dvb" reportingUrl="http://k.example/"/></Metrics><ContentSteering>http://l.example/</ContentSteering></MPD>`, dash.PlayerOptions{})
	for _, gone := range []string{".example", "/h/", "c/<", "Location", "ContentSteering", "Metrics"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there: %s", gone, got)
		}
	}
	if got := describe(parse(t, got)); got != "v - | b/j@0s+10s" {
		t.Error(got)
	}
}

const ladder = head + `<ServiceDescription id="9"><OperatingBandwidth mediaType="video" max="5"/></ServiceDescription><ServiceDescription><Scope schemeIdUri="urn:dvb:dash:lowlatency:scope:2019"/></ServiceDescription><ServiceDescription><Scope schemeIdUri="urn:x"/></ServiceDescription>
	<Period><SegmentTemplate media="$RepresentationID$$Number$" duration="10"/>
	<AdaptationSet contentType="video"><Representation id="a" bandwidth="3000"/><Representation id="b" bandwidth="1000"/><Representation id="c" bandwidth="2000"/></AdaptationSet>
	<AdaptationSet contentType="video"><Representation id="d" bandwidth="9000"/><Representation id="e" bandwidth="8000"/></AdaptationSet>
	<AdaptationSet contentType="audio"><Representation id="f" bandwidth="9000"/><Representation id="g" bandwidth="10"/></AdaptationSet></Period></MPD>`

func TestForPlayerKeepsAndOrders(t *testing.T) {
	upTo := func(limit int64) func(*dash.Representation) bool {
		return func(r *dash.Representation) bool { return r.ContentType == "audio" || r.Bandwidth <= limit }
	}
	best := func(a, b *dash.Representation) int { return cmp.Compare(b.Bandwidth, a.Bandwidth) }
	for name, tt := range map[string]struct {
		o    dash.PlayerOptions
		want string
	}{
		"all":                  {dash.PlayerOptions{}, "a b c d e f g"},
		"some":                 {dash.PlayerOptions{Keep: upTo(2000)}, "b c e f g"},
		"all but the cheapest": {dash.PlayerOptions{Keep: upTo(1)}, "b e f g"},
		"cap only":             {dash.PlayerOptions{MaxBandwidth: 1}, "a b c d e f g"},
		"the best first":       {dash.PlayerOptions{Order: best}, "a c b d e f g"},
		"the least first":      {dash.PlayerOptions{Order: func(a, b *dash.Representation) int { return best(b, a) }}, "b c a e d g f"},
		"sound only":           {dash.PlayerOptions{SoundOnly: true}, "f g"},
		"both":                 {dash.PlayerOptions{Keep: upTo(2000), Order: best}, "c b e f g"},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []string
			for _, r := range parse(t, forPlayer(t, ladder, tt.o)).Representations() {
				ids = append(ids, r.ID)
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("left are %s, want %s", got, tt.want)
			}
		})
	}
}

func TestForPlayerTellsThePlayer(t *testing.T) {
	const operating = `<OperatingBandwidth mediaType="video" max="1400000"/>`
	const cmcd = `<ClientDataReporting><CMCDParameters version="1" schemeIdUri="urn:mpeg:dash:cta-5004:2023" mode="query" includeInRequests="segment" keys="bl br bs d mtp nor nrr ot sid st su tb"/></ClientDataReporting>`
	for name, tt := range map[string]struct {
		o    dash.PlayerOptions
		want string
	}{
		"cap":  {dash.PlayerOptions{MaxBandwidth: 1_400_000}, operating},
		"cmcd": {dash.PlayerOptions{CMCD: true}, cmcd},
		"both": {dash.PlayerOptions{MaxBandwidth: 1_400_000, CMCD: true}, operating + cmcd},
	} {
		t.Run(name, func(t *testing.T) {
			got := forPlayer(t, ladder, tt.o)
			// dash.js reads the last without Scope, unless one has DVB's.
			want := `<ServiceDescription id="0">` + tt.want + `</ServiceDescription>`
			if !strings.Contains(got, want) || strings.Count(got, "<ServiceDescription") != 2 || strings.Contains(got, "dvb") {
				t.Errorf("want %s in\n%s", want, got)
			}
		})
	}
}

// order is where the schema wants children: ISO/IEC 23009-1, 5th edition.
var order = map[string][]string{
	"MPD": {
		"ProgramInformation", "BaseURL", "Location", "PatchLocation", "ServiceDescription", "InitializationSet", "InitializationGroup", "InitializationPresentation",
		"ContentProtection", "Period", "Metrics", "EssentialProperty", "SupplementalProperty", "UTCTiming", "LeapSecondInformation",
	},
	"Representation": {
		"FramePacking", "AudioChannelConfiguration", "ContentProtection", "OutputProtection", "EssentialProperty", "SupplementalProperty", "InbandEventStream", "Switching",
		"RandomAccess", "GroupLabel", "Label", "ProducerReferenceTime", "ContentPopularityRate", "Resync", "BaseURL", "ExtendedBandwidth", "SubRepresentation",
		"SegmentBase", "SegmentList", "SegmentTemplate",
	},
}

func TestInsertionsKeepTheOrderOfTheSchema(t *testing.T) {
	docs := documents(t)
	docs["all children"] = []byte(allChildren())
	docs["prefixed"] = []byte(strings.NewReplacer("</", "</d:", "<", "<d:", "xmlns=", "xmlns:d=").Replace(allChildren()))
	for name, doc := range docs {
		t.Run(name, func(t *testing.T) {
			m := parse(t, string(extend(t, parse(t, string(doc)))))
			told, err := m.ForPlayer(dash.PlayerOptions{MaxBandwidth: 1, CMCD: true})
			if err != nil {
				t.Fatal(err)
			}
			checkOrder(t, told)
		})
	}
}

// allChildren is an MPD whose elements have every child of the schema.
func allChildren() string {
	child := func(parent string, skip ...string) (s string) {
		for _, tag := range order[parent] {
			switch {
			case slices.Contains(skip, tag):
			case tag == "Period":
				s += "%s"
			case tag == "SegmentTemplate":
				s += `<SegmentTemplate media="$Number$" duration="10"/>`
			default:
				s += "<" + tag + "/>"
			}
		}
		return s
	}
	period := `<Period><AdaptationSet mimeType="video/mp4">` + rep + child("Representation", "SegmentBase", "SegmentList") + `</Representation></AdaptationSet></Period>`
	return head + fmt.Sprintf(child("MPD"), period) + `</MPD>`
}

func checkOrder(t *testing.T, doc []byte) {
	t.Helper()
	type open struct {
		name string
		last int
	}
	var stack []open
	d := xml.NewDecoder(strings.NewReader(string(doc)))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			if len(stack) > 0 {
				parent := &stack[len(stack)-1]
				at := slices.Index(order[parent.name], x.Name.Local)
				if at >= 0 && at < parent.last {
					t.Errorf("%s stands too late in %s", x.Name.Local, parent.name)
				}
				parent.last = max(parent.last, at)
			}
			stack = append(stack, open{x.Name.Local, -1})
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		}
	}
}

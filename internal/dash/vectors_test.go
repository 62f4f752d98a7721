package dash_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
)

var update = flag.Bool("update", false, "write the vectors anew")

const (
	vectorFile = "../../spec/vectors/mpd.json"
	specFile   = "../../spec/03-mpd.md"
	schemaFile = "../../spec/03-mpd.xsd"
)

// vectors is spec/vectors/mpd.json: what another implementation must read.
type vectors struct {
	Comment    string             `json:"comment"`
	Addressing []addressingVector `json:"addressing"`
	Rejected   []rejectedVector   `json:"rejected"`
	Extension  extensionVector    `json:"extension"`
}

type addressingVector struct {
	Name            string                 `json:"name"`
	MPD             string                 `json:"mpd"`
	Representations []representationVector `json:"representations"`
}

type representationVector struct {
	Name     string          `json:"name"`
	Init     *resourceVector `json:"init,omitempty"`
	Segments []segmentVector `json:"segments"` // null: in the index of the file
}

type resourceVector struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset,omitempty"`
	Length int64  `json:"length,omitempty"` // absent: the whole file
}

type segmentVector struct {
	resourceVector
	Start    int64 `json:"start_ns"`
	Duration int64 `json:"duration_ns"`
}

type rejectedVector struct {
	Name   string `json:"name"`
	MPD    string `json:"mpd"`
	Reason string `json:"reason"`
}

type extensionVector struct {
	MPD       string                `json:"mpd"`
	Publisher htlcdash.PublisherID  `json:"publisher"`
	Providers []string              `json:"providers"`
	Sources   []string              `json:"sources"`
	Terms     map[string]termVector `json:"terms"`
	Extended  string                `json:"extended"`
	TitleID   htlcdash.TitleID      `json:"title_id"`
}

type termVector struct {
	List       string     `json:"list"`
	ListRoot   string     `json:"list_root"`
	InitDigest string     `json:"init_sha256,omitempty"`
	InfoHash   string     `json:"info_hash_v2,omitempty"`
	Count      int        `json:"count"`
	Total      int64      `json:"total_msat"`
	Max        int64      `json:"max_msat"`
	Runs       [][3]int64 `json:"runs"` // keys, segments that each opens, msat of each
}

func makeVectors(t *testing.T) vectors {
	v := vectors{Comment: "spec/03-mpd.md. A path is percent-decoded and relative to the MPD. The terms are made up."}
	for _, tt := range addressing {
		v.Addressing = append(v.Addressing, addressingVector{tt.name, tt.mpd, representationVectors(parse(t, tt.mpd))})
	}
	for _, tt := range rejected {
		if len(tt.mpd) < 1000 {
			v.Rejected = append(v.Rejected, rejectedVector{tt.name, tt.mpd, tt.says})
		}
	}
	v.Extension = makeExtension(t)
	return v
}

func representationVectors(m *dash.Manifest) (out []representationVector) {
	for _, r := range m.Representations() {
		v := representationVector{Name: r.ID}
		if r.Init.Path != "" {
			v.Init = &resourceVector{r.Init.Path, r.Init.Offset, r.Init.Length}
		}
		for _, s := range r.Segments {
			v.Segments = append(v.Segments, segmentVector{resourceVector{s.Path, s.Offset, s.Length}, s.Start.Nanoseconds(), s.Duration.Nanoseconds()})
		}
		out = append(out, v)
	}
	return out
}

func makeExtension(t *testing.T) extensionVector {
	doc, err := os.ReadFile("testdata/timeline.mpd")
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, string(doc))
	extended := extend(t, m)
	v := extensionVector{
		MPD:       string(doc),
		Publisher: htlcdash.PublisherID{7},
		Providers: parse(t, string(extended)).Providers(),
		Sources:   parse(t, string(extended)).Sources(),
		Terms:     map[string]termVector{},
		Extended:  string(extended),
		TitleID:   htlcdash.IDOf(extended),
	}
	for id, p := range pays(m) {
		term := termVector{
			List: p.List, ListRoot: p.ListRoot.String(), InitDigest: hex.EncodeToString(p.InitDigest[:]),
			Count: p.Count, Total: int64(p.Total), Max: int64(p.Max),
		}
		if p.InfoHash != [32]byte{} {
			term.InfoHash = hex.EncodeToString(p.InfoHash[:])
		}
		for _, run := range p.Runs {
			term.Runs = append(term.Runs, [3]int64{int64(run.Count), int64(run.Opens), int64(run.Price)})
		}
		v.Terms[id] = term
	}
	return v
}

func TestVectorsAreCurrent(t *testing.T) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, out.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(vectorFile)
	if err != nil || !bytes.Equal(have, out.Bytes()) {
		t.Errorf("%s is not current (%v): go test ./internal/dash -update", vectorFile, err)
	}
}

// TestSpecExample reads the example of the specification.
func TestSpecExample(t *testing.T) {
	spec, err := os.ReadFile(specFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```xml\n(<\\?xml.*?)```").FindAllSubmatch(spec, -1)
	if len(blocks) != 1 {
		t.Fatalf("%d examples in %s", len(blocks), specFile)
	}
	example := blocks[0][1]
	m := parse(t, string(example))
	if _, ok := m.Publisher(); !ok || len(m.Providers()) != 1 || len(m.Sources()) != 1 || len(m.Representations()) != 2 {
		t.Errorf("the example has %d Representations", len(m.Representations()))
	}
	terms := map[string]dash.Pay{}
	for _, r := range m.Representations() {
		terms[r.ID] = *r.Pay
	}
	publisher, _ := m.Publisher()
	again, err := m.Extend(publisher, dash.Places{Providers: m.Providers(), Sources: m.Sources()}, terms)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, squeeze(canonical(t, again)), squeeze(canonical(t, example)))
}

// squeeze leaves white space out.
func squeeze(lines []string) (out []string) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "text") || strings.Trim(line, `tex "\n`) != "" {
			out = append(out, line)
		}
	}
	return out
}

// TestSchemaNamesWhatWeWrite holds the names of elements and attributes that
// we write against those that the schema declares.
func TestSchemaNamesWhatWeWrite(t *testing.T) {
	schema, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var declared, written []string
	walk(t, schema, func(x xml.StartElement) {
		for _, a := range x.Attr {
			if a.Name.Local == "name" && (x.Name.Local == "element" || x.Name.Local == "attribute") {
				declared = append(declared, a.Value)
			}
		}
	})
	walk(t, []byte(makeExtension(t).Extended), func(x xml.StartElement) {
		if x.Name.Space != dash.Namespace {
			return
		}
		written = append(written, x.Name.Local)
		for _, a := range x.Attr {
			written = append(written, a.Name.Local)
		}
	})
	slices.Sort(declared)
	slices.Sort(written)
	if d, w := slices.Compact(declared), slices.Compact(written); !slices.Equal(d, w) {
		t.Errorf("declared are %q, written %q", d, w)
	}
}

func walk(t *testing.T, doc []byte, f func(xml.StartElement)) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if x, ok := token.(xml.StartElement); ok {
			f(x)
		}
	}
}

package dash_test

import (
	"errors"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

func TestExtendThenParse(t *testing.T) {
	for name, doc := range documents(t) {
		t.Run(name, func(t *testing.T) {
			m := parse(t, string(doc))
			got := parse(t, string(extend(t, m)))
			if id, ok := got.Publisher(); !ok || id != (htlcdash.PublisherID{7}) {
				t.Errorf("publisher %v", id)
			}
			if p := (dash.Places{Providers: got.Providers(), Sources: got.Sources()}); !reflect.DeepEqual(p, places()) {
				t.Errorf("places %q", p)
			}
			want := short(pays(m))
			for _, r := range got.Representations() {
				if !reflect.DeepEqual(*r.Pay, want[r.ID]) {
					t.Errorf("terms of %s: %+v, want %+v", r.ID, *r.Pay, want[r.ID])
				}
			}
		})
	}
}

func TestExtendOnDemand(t *testing.T) {
	mpd, file := onDemand(sidx(1, 2, 0, reference{7, 3}, reference{7, 3}))
	if _, err := parse(t, mpd).Extend(htlcdash.PublisherID{}, dash.Places{}, nil); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("extended though its index was not read: %v", err)
	}
	m, err := resolve(t, mpd, file)
	if err != nil {
		t.Fatal(err)
	}
	extended := string(extend(t, m))
	if got := parse(t, extended).Representations()[0]; got.Pay.Count != 2 || got.Segments != nil {
		t.Errorf("%+v", got)
	}
	if _, err := resolve(t, extended, file); err != nil {
		t.Error(err)
	}
	more := strings.Replace(extended, `count="2" total="2000" max="1000"`, `count="3" total="3000" max="1000"`, 1)
	more = strings.Replace(more, `r="1"`, `r="2"`, 1)
	if _, err := resolve(t, more, file); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("terms for 3 segments, an index of 2: %v", err)
	}
}

func TestPlainMPDHasNoTerms(t *testing.T) {
	m := parse(t, template(`media="$Number$" duration="5"`))
	if _, ok := m.Publisher(); ok || m.Providers() != nil || m.Sources() != nil || m.Representations()[0].Pay != nil {
		t.Error("terms out of nowhere")
	}
}

func TestExtendRejects(t *testing.T) {
	m := parse(t, template(`initialization="i" media="$Number$" duration="5"`))
	good := pays(m)["v"]
	with := func(change func(*dash.Pay)) map[string]dash.Pay {
		p := good
		p.Runs = append([]dash.PriceRun(nil), p.Runs...)
		change(&p)
		return map[string]dash.Pay{"v": p}
	}
	two := with(func(*dash.Pay) {})
	two["w"] = good
	for name, tt := range map[string]struct {
		pays      map[string]dash.Pay
		providers []string
	}{
		"nothing for a Representation": {nil, nil},
		"unknown Representation":       {two, nil},
		"count":                        {with(func(p *dash.Pay) { p.Count++; p.Runs = nil }), nil},
		"list escapes":                 {with(func(p *dash.Pay) { p.List = "../v.seals" }), nil},
		"list not clean":               {with(func(p *dash.Pay) { p.List = "seals//v" }), nil},
		"no list":                      {with(func(p *dash.Pay) { p.List = "" }), nil},
		"no digest of init":            {with(func(p *dash.Pay) { p.InitDigest = [32]byte{} }), nil},
		"total below max":              {with(func(p *dash.Pay) { p.Total = 1; p.Runs = nil }), nil},
		"total above all":              {with(func(p *dash.Pay) { p.Total = 3*p.Max + 1; p.Runs = nil }), nil},
		"negative":                     {with(func(p *dash.Pay) { p.Total, p.Max = -2, -1; p.Runs = nil }), nil},
		"max above the bound":          {with(func(p *dash.Pay) { p.Max = htlcdash.MaxPrice + 1; p.Total = p.Max; p.Runs = nil }), nil},
		"runs of too few":              {with(func(p *dash.Pay) { p.Runs[0].Count = 1 }), nil},
		"runs of too many":             {with(func(p *dash.Pay) { p.Runs[0].Count = math.MaxInt }), nil},
		"run that opens nothing":       {with(func(p *dash.Pay) { p.Runs[0].Opens = 0 }), nil},
		"run that opens too much":      {with(func(p *dash.Pay) { p.Runs[0].Opens = math.MaxInt }), nil},
		"run that wraps":               {with(func(p *dash.Pay) { p.Runs[0].Count, p.Runs[0].Opens = 1<<62, 4 }), nil},
		"empty run":                    {with(func(p *dash.Pay) { p.Runs = append(p.Runs, dash.PriceRun{}) }), nil},
		"too many runs":                {with(func(p *dash.Pay) { p.Runs = make([]dash.PriceRun, dash.MaxRuns+1) }), nil},
		"provider without scheme":      {with(func(*dash.Pay) {}), []string{"provider.example"}},
		"provider of another kind":     {with(func(*dash.Pay) {}), []string{"file:///etc"}},
		"provider with a password":     {with(func(*dash.Pay) {}), []string{"https://a:b@provider.example"}},
		"provider with a query":        {with(func(*dash.Pay) {}), []string{"https://provider.example/?a"}},
		"long provider":                {with(func(*dash.Pay) {}), []string{"https://provider.example/" + strings.Repeat("a", 512)}},
		"many providers":               {with(func(*dash.Pay) {}), make([]string, dash.MaxProviders+1)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := m.Extend(htlcdash.PublisherID{}, dash.Places{Providers: tt.providers}, tt.pays); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error %v", err)
			}
			if tt.providers == nil {
				return
			}
			if _, err := m.Extend(htlcdash.PublisherID{}, dash.Places{Sources: tt.providers}, tt.pays); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("as sources: error %v", err)
			}
		})
	}
}

// The terms in an MPD, and changes that must not be read.
func TestParseRejectsTerms(t *testing.T) {
	m := parse(t, template(`initialization="i" media="$Number$" duration="2"`))
	good := string(extend(t, m))
	for name, tt := range map[string]struct{ old, new, says string }{
		"essential":                {"SupplementalProperty", "EssentialProperty", "is a SupplementalProperty"},
		"version":                  {`value="2"`, `value="1"`, "version"},
		"twice":                    {`<SupplementalProperty xmlns:pay="` + dash.Namespace + `" schemeIdUri="` + dash.Namespace + `" value="2"><pay:Publisher`, `<SupplementalProperty schemeIdUri="` + dash.Namespace + `" value="2"/><SupplementalProperty xmlns:pay="` + dash.Namespace + `" schemeIdUri="` + dash.Namespace + `" value="2"><pay:Publisher`, "twice"},
		"no publisher":             {"<pay:Publisher", "<pay:Nobody", "no publisher"},
		"publisher's key":          {`key="07`, `key="`, "publisher key"},
		"provider":                 {`url="https:`, `url="ftp:`, "provider"},
		"other namespace":          {`xmlns:pay="` + dash.Namespace + `"`, `xmlns:pay="urn:x"`, "no publisher"},
		"title only":               {`<SupplementalProperty xmlns:pay="` + dash.Namespace + `" schemeIdUri="` + dash.Namespace + `" value="2"><pay:Segments`, `<SupplementalProperty xmlns:pay="` + dash.Namespace + `" schemeIdUri="urn:x" value="2"><pay:Segments`, "at every Representation"},
		"no segments":              {"pay:Segments", "pay:Nothing", "no Segments"},
		"count":                    {`count="5"`, `count="4"`, "do not agree"},
		"count is no number":       {`count="5"`, `count="-5"`, "count"},
		"count missing":            {`count="5" `, ``, "0 segments"},
		"total missing":            {`total=`, `a=`, "total is missing"},
		"max missing":              {`max=`, `a=`, "max is missing"},
		"max too high":             {`max="3000"`, `max="70368744177665"`, "max"},
		"max not reached":          {`max="3000"`, `max="3001"`, "do not agree"},
		"list absolute":            {`list="seals`, `list="http://example/seals`, "absolute"},
		"list escapes":             {`list="seals`, `list="..`, "folder"},
		"root without its kin":     {`listRoot="sha256-`, `listRoot="`, "listRoot"},
		"digest of another kind":   {`initDigest="sha256-`, `initDigest="sha512-`, "initDigest"},
		"digest cut off":           {`AAA="`, `AA="`, "base64 of 32 bytes"},
		"digest not canonical":     {`AAA="`, `AAB="`, "base64 of 32 bytes"},
		"run without price":        {`<pay:P msat="1000" r="1"/>`, `<pay:P r="1"/>`, "msat is missing"},
		"run negative":             {`r="1"`, `r="-1"`, "P@r"},
		"run too long":             {`r="1"`, `r="9"`, "do not agree"},
		"run that opens nothing":   {`r="1"`, `n="0"`, "do not agree"},
		"run that opens too much":  {`r="1"`, `n="9"`, "do not agree"},
		"run that opens no number": {`r="1"`, `n="-1"`, "P@n"},
		"many runs":                {`<pay:P msat="1000" r="1"/>`, strings.Repeat(`<pay:P msat="0"/>`, 257), "more than 256"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.ReplaceAll(good, tt.old, tt.new)
			if bad == good {
				t.Fatal("changed nothing")
			}
			rejects(t, []byte(bad), tt.says)
		})
	}
}

func TestPeriodsThatRepeatAnID(t *testing.T) {
	m := parse(t, head+`<Period duration="PT4S"><AdaptationSet mimeType="video/mp4">`+rep+`<SegmentTemplate media="a$Number$" duration="2"/></Representation></AdaptationSet></Period>
		<Period><AdaptationSet mimeType="video/mp4">`+rep+`<SegmentTemplate media="b$Number$" duration="2"/></Representation></AdaptationSet></Period></MPD>`)
	terms := pays(m)
	if got := len(terms); got != 2 {
		t.Fatalf("terms for %d Representations: %v", got, terms)
	}
	again := parse(t, string(extend(t, m)))
	counts := map[string]int{}
	for _, r := range again.Representations() {
		counts[r.ID] = r.Pay.Count
	}
	if !maps.Equal(counts, map[string]int{"v": 2, "v@2": 3}) {
		t.Errorf("segments %v", counts)
	}
}

func TestMaxPriceTimesMaxSegmentsFits(t *testing.T) {
	if sum := htlcdash.MaxPrice * lightning.Msat(htlcdash.MaxSegments); sum <= 0 {
		t.Errorf("the sum is %d", sum)
	}
}

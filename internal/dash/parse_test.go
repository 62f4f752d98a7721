package dash_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
)

const head = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011">`

// video is an MPD of one Period with one AdaptationSet that holds inner.
func video(inner string) string {
	return head + `<Period><AdaptationSet mimeType="video/mp4">` + inner + `</AdaptationSet></Period></MPD>`
}

const rep = `<Representation id="v" bandwidth="1000">`

// addressing is what MPDs name, by hand: for each Representation a line with
// its name, its init segment and its segments as path[offset+length]@start+duration.
var addressing = []struct{ name, mpd, want string }{
	{
		"number",
		video(rep + `<SegmentTemplate initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s" duration="4"/></Representation>`),
		"v v/init.mp4 | v/1.m4s@0s+4s v/2.m4s@4s+4s v/3.m4s@8s+2s",
	},
	{
		"number with width, start and bandwidth",
		video(rep + `<SegmentTemplate timescale="1000" media="$Bandwidth%06d$-$Number%04d$$$.m4s" duration="5000" startNumber="9999"/></Representation>`),
		"v - | 001000-9999$.m4s@0s+5s 001000-10000$.m4s@5s+5s",
	},
	{
		"end number",
		video(rep + `<SegmentTemplate media="$Number$" duration="2" startNumber="0" endNumber="1"/></Representation>`),
		"v - | 0@0s+2s 1@2s+2s",
	},
	{
		"end number beyond the end",
		video(rep + `<SegmentTemplate media="$Number$" duration="5" endNumber="99"/></Representation>`),
		"v - | 1@0s+5s 2@5s+5s",
	},
	{
		"last segment is shorter than a tick allows",
		video(rep + `<SegmentTemplate timescale="3" media="$Number$" duration="10"/></Representation>`),
		"v - | 1@0s+3.333333333s 2@3.333333333s+3.333333333s 3@6.666666666s+3.333333334s",
	},
	{
		"time by duration, with offset",
		video(rep + `<SegmentTemplate timescale="10" media="t$Time$" duration="50" presentationTimeOffset="700"/></Representation>`),
		"v - | t700@0s+5s t750@5s+5s",
	},
	{
		"timeline",
		video(rep + `<SegmentTemplate timescale="10" initialization="i" media="$Time$" presentationTimeOffset="100"><SegmentTimeline><S t="90" d="20" r="1"/><S d="30" k="7"/><S t="200" d="5"/></SegmentTimeline></SegmentTemplate></Representation>`),
		"v i | 90@-1s+2s 110@1s+2s 130@3s+3s 200@10s+500ms",
	},
	{
		"timeline that repeats to the next and to the end",
		video(rep + `<SegmentTemplate media="$Number%02d$-$Time$"><SegmentTimeline><S t="0" d="2" r="-1"/><S t="3" d="3" r="-1"/></SegmentTimeline></SegmentTemplate></Representation>`),
		"v - | 01-0@0s+2s 02-2@2s+2s 03-3@3s+3s 04-6@6s+3s 05-9@9s+3s",
	},
	{
		"timeline that numbers its entries",
		video(rep + `<SegmentTemplate media="$Number$" startNumber="5" endNumber="8"><SegmentTimeline><S d="2" r="1"/><S n="8" d="2" r="9"/></SegmentTimeline></SegmentTemplate></Representation>`),
		"v - | 5@0s+2s 6@2s+2s 8@4s+2s",
	},
	{
		"template inherited from all levels",
		head + `<BaseURL>a/</BaseURL><Period><BaseURL>b/</BaseURL><SegmentTemplate timescale="10" duration="99" startNumber="3"/>
		<AdaptationSet contentType="audio" codecs="mp4a.40.2" lang="sv"><BaseURL>../c/</BaseURL><SegmentTemplate duration="50" media="$RepresentationID$-$Number$"/>
		<Representation id="x" bandwidth="1"/><Representation id="y" bandwidth="2"><BaseURL>d/e</BaseURL><SegmentTemplate media="$Number$"><Initialization sourceURL="i"/></SegmentTemplate></Representation></AdaptationSet></Period></MPD>`,
		"x - | a/c/x-3@0s+5s a/c/x-4@5s+5s\ny a/c/d/i | a/c/d/3@0s+5s a/c/d/4@5s+5s",
	},
	{
		"innermost kind wins",
		head + `<Period><SegmentBase timescale="7"/><AdaptationSet mimeType="video/mp4"><SegmentList duration="1"><SegmentURL media="no"/></SegmentList>` + rep + `<SegmentTemplate media="$Number$" duration="10"/></Representation></AdaptationSet></Period></MPD>`,
		"v - | 1@0s+10s",
	},
	{
		"list",
		video(rep + `<SegmentList timescale="10" duration="40"><Initialization sourceURL="i.mp4"/><SegmentURL media="a%20b.m4s"/><SegmentURL media="./c/../d"/><SegmentURL media="e"/></SegmentList></Representation>`),
		"v i.mp4 | a b.m4s@0s+4s d@4s+4s e@8s+2s",
	},
	{
		"list of byte ranges",
		video(rep + `<BaseURL>f.mp4</BaseURL><SegmentList duration="5"><Initialization range="0-99"/><SegmentURL mediaRange="100-199"/><SegmentURL mediaRange="200-204"/></SegmentList></Representation>`),
		"v f.mp4[0+100] | f.mp4[100+100]@0s+5s f.mp4[200+5]@5s+5s",
	},
	{
		"list with a timeline, inherited",
		head + `<Period><AdaptationSet><SegmentList timescale="2"><SegmentTimeline><S t="4" d="6"/><S d="2"/></SegmentTimeline></SegmentList>` + rep + `<SegmentList><SegmentURL media="a"/><SegmentURL media="b"/></SegmentList></Representation></AdaptationSet></Period></MPD>`,
		"v - | a@2s+3s b@5s+1s",
	},
	{
		"list of one",
		video(rep + `<SegmentList><SegmentURL media="a"/></SegmentList></Representation>`),
		"v - | a@0s+10s",
	},
	{
		"bare file",
		head + `<Period><AdaptationSet mimeType="text/vtt" lang="en"><Representation id="t" bandwidth="1"><BaseURL>subs.vtt</BaseURL></Representation></AdaptationSet></Period></MPD>`,
		"t - | subs.vtt@0s+10s",
	},
	{
		"on demand, before its index is read",
		video(rep + `<BaseURL>f.mp4</BaseURL><SegmentBase indexRange="100-199"><Initialization range="0-99"/></SegmentBase></Representation>`),
		"v f.mp4 |",
	},
	{
		"periods",
		head + `<Period duration="PT4S"><AdaptationSet mimeType="video/mp4">` + rep + `<SegmentTemplate media="a$Number$" duration="2"/></Representation></AdaptationSet></Period>
		<Period><AdaptationSet mimeType="video/mp4">` + rep + `<SegmentTemplate media="b$Number$" duration="2"/></Representation></AdaptationSet></Period>
		<Period start="PT7S"><AdaptationSet mimeType="video/mp4">` + rep + `<SegmentTemplate media="c$Number$" duration="2"/></Representation><Representation id="w" bandwidth="1"><SegmentTemplate media="w$Number$" duration="9"/></Representation></AdaptationSet></Period></MPD>`,
		"v - | a1@0s+2s a2@2s+2s\nv@2 - | b1@4s+2s b2@6s+1s\nv@3 - | c1@7s+2s c2@9s+1s\nw - | w1@7s+3s",
	},
	{
		"absolute addresses are left out",
		head + `<BaseURL>https://cdn.example/x/</BaseURL><BaseURL>here/</BaseURL><BaseURL>there/</BaseURL><Period><BaseURL>/root/</BaseURL><AdaptationSet mimeType="video/mp4">` + rep + `<SegmentTemplate media="$Number$" duration="10"/></Representation></AdaptationSet></Period></MPD>`,
		"v - | here/1@0s+10s",
	},
	{
		"prefixed, foreign and odd content",
		`<?xml version="1.0"?><!-- a --><d:MPD xmlns:d="urn:mpeg:dash:schema:mpd:2011" xmlns:x="urn:x" mediaPresentationDuration="P0Y0M0DT0H0M1.50S"bprofiles="none"><x:Period><d:AdaptationSet/></x:Period><d:Period><d:AdaptationSet x:mimeType="no" mimeType="audio/mp4">` +
			`<d:Representation id="v" bandwidth="1"><x:BaseURL>no</x:BaseURL><d:SegmentTemplate x:media="no" media="&#x24;Number$&amp;" duration="2"/></d:Representation></d:AdaptationSet></d:Period></d:MPD><!-- z -->` + "\n",
		"v - | 1&@0s+1.5s",
	},
}

func TestAddressing(t *testing.T) {
	for _, tt := range addressing {
		t.Run(tt.name, func(t *testing.T) {
			if got := describe(parse(t, tt.mpd)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func parse(t testing.TB, mpd string) *dash.Manifest {
	t.Helper()
	m, err := dash.Parse([]byte(mpd))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func describe(m *dash.Manifest) string {
	var lines []string
	for _, r := range m.Representations() {
		init := "-"
		if r.Init.Path != "" {
			init = describeResource(r.Init)
		}
		var line strings.Builder
		line.WriteString(r.ID + " " + init + " |")
		for _, s := range r.Segments {
			line.WriteString(fmt.Sprintf(" %s@%v+%v", describeResource(s.Resource), s.Start, s.Duration))
		}
		lines = append(lines, line.String())
	}
	return strings.Join(lines, "\n")
}

func describeResource(r dash.Resource) string {
	if r.Length == 0 {
		return r.Path
	}
	return fmt.Sprintf("%s[%d+%d]", r.Path, r.Offset, r.Length)
}

func TestRepresentationTellsWhatItIs(t *testing.T) {
	m := parse(t, head+`<Period><AdaptationSet mimeType="video/mp4" width="640" codecs="avc1" lang="en">
		<Representation id="a" bandwidth="300000" height="360"><SegmentTemplate media="a$Number$" duration="10"/></Representation>
		<Representation id="b" bandwidth="300" width="1" codecs="hev1"><SegmentTemplate media="b$Number$" duration="10"/></Representation></AdaptationSet></Period></MPD>`)
	a, b := m.Representations()[0], m.Representations()[1]
	if a.ContentType != "video" || a.MimeType != "video/mp4" || a.Codecs != "avc1" || a.Lang != "en" || a.Width != 640 || a.Height != 360 || a.Bandwidth != 300000 {
		t.Errorf("a is %+v", a)
	}
	if b.Codecs != "hev1" || b.Width != 1 || b.Height != 0 {
		t.Errorf("b is %+v", b)
	}
	if m.Duration().Seconds() != 10 {
		t.Errorf("duration %v", m.Duration())
	}
}

// Times in segments are those of the presentation, once Offset is added.
func TestOffset(t *testing.T) {
	period := func(start, offset string) string {
		return `<Period start="` + start + `"><AdaptationSet mimeType="video/mp4"><SegmentTemplate timescale="90000" media="$Number$" duration="90000" presentationTimeOffset="` + offset + `"/>` + rep + `</Representation></AdaptationSet></Period>`
	}
	m := parse(t, head+period("PT0S", "0")+period("PT3S", "180000")+period("PT4S", "153000000090000")+`</MPD>`)
	for i, want := range []time.Duration{0, time.Second, 4*time.Second - 1700000001*time.Second} {
		if got := m.Representations()[i].Offset; got != want {
			t.Errorf("Period %d: offset %v, want %v", i, got, want)
		}
	}
	years := video(rep + `<SegmentTemplate media="$Number$" duration="2" presentationTimeOffset="4635792000"/></Representation>`)
	if _, err := dash.Parse([]byte(years)); !errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), "absurd") {
		t.Errorf("an offset of 147 years: %v", err)
	}
}

func TestContentType(t *testing.T) {
	for attrs, want := range map[string]string{
		`contentType="audio" mimeType="video/mp4"`:            "audio",
		`mimeType="audio/webm"`:                               "audio",
		`mimeType="application/mp4" codecs="stpp.ttml.im1t"`:  "text",
		`mimeType="application/ttml+xml"`:                     "text",
		`mimeType="image/jpeg"`:                               "image",
		`mimeType="application/mp4" codecs="something"`:       "",
		`contentType="application" mimeType="application/xy"`: "",
	} {
		m := parse(t, head+`<Period><AdaptationSet `+attrs+`>`+rep+`<BaseURL>f</BaseURL></Representation></AdaptationSet></Period></MPD>`)
		if got := m.Representations()[0].ContentType; got != want {
			t.Errorf("%s is %q, want %q", attrs, got, want)
		}
	}
}

func TestDurationWithoutTheMPDsOwn(t *testing.T) {
	bare := strings.Replace(head, `mediaPresentationDuration="PT10S"`, "", 1)
	for inner, want := range map[string]string{
		`<Period start="PT1S" duration="PT2M">%s</Period>`: "2m1s",
		`<Period>%s</Period>`:                              "1m0s", // by its timeline
	} {
		set := `<AdaptationSet mimeType="audio/mp4">` + rep + `<SegmentTemplate media="$Time$"><SegmentTimeline><S d="20" r="2"/></SegmentTimeline></SegmentTemplate></Representation></AdaptationSet>`
		if got := parse(t, bare+fmt.Sprintf(inner, set)+`</MPD>`).Duration().String(); got != want {
			t.Errorf("duration %v, want %v", got, want)
		}
	}
}

// template is an MPD with one SegmentTemplate of those attributes.
func template(attrs string) string {
	return video(rep + `<SegmentTemplate ` + attrs + `/></Representation>`)
}

// rejected is what must not be read, and what the error must say to help.
var rejected = []struct{ name, mpd, says string }{
	{"empty", "", "no root"},
	{"not XML", "hello", "root"},
	{"cut off", head, "not XML"},
	{"wrong root", `<mpd xmlns="urn:mpeg:dash:schema:mpd:2011"/>`, "want MPD"},
	{"no namespace", `<MPD/>`, "want MPD"},
	{"other namespace", `<MPD xmlns="urn:mpeg:DASH:schema:MPD:2011"/>`, "want MPD"},
	{"two roots", head + `</MPD><MPD/>`, "two root"},
	{"text behind the root", video(rep+`<BaseURL>f</BaseURL></Representation>`) + "x", "text outside"},
	{"doctype", `<!DOCTYPE MPD [<!ENTITY a "b">]>` + video(""), "DOCTYPE"},
	{"doctype inside", head + `<!DOCTYPE x></MPD>`, "DOCTYPE"},
	{"entity", video(`&a;`), "not XML"},
	{"encoding", `<?xml version="1.0" encoding="ISO-8859-1"?>` + video(""), "UTF-8"},
	{"duplicate attribute", template(`media="a" media="b"`), "twice"},
	{"line break that a rewrite would lose", video(`<Label a="b&#x0A;c"/>`), "write a blank"},
	{"deep", strings.Repeat("<a>", 100), "depth"},
	{"many attributes", "<MPD " + manyAttributes(200) + "/>", "attributes"},
	{"dynamic", strings.Replace(template(`media="a"`), "static", "dynamic", 1), "once it has ended"},
	{"remote period", head + `<Period xmlns:l="http://www.w3.org/1999/xlink" l:href="http://example/p"/></MPD>`, "put its content into the MPD"},
	{"no period", head + `</MPD>`, "0 Periods"},
	{"no representation", video(""), "no Representation"},
	{"no id", video(`<Representation bandwidth="1"/>`), "id"},
	{"id with a blank", video(`<Representation id="a b" bandwidth="1"/>`), "white space"},
	{"id twice", video(rep + `<BaseURL>f</BaseURL></Representation>` + rep + `<BaseURL>f</BaseURL></Representation>`), "give each its own"},
	{"no bandwidth", video(`<Representation id="a"/>`), "bandwidth"},
	{"huge bandwidth", video(`<Representation id="a" bandwidth="4294967296"/>`), "bandwidth"},
	{"negative width", video(`<Representation id="a" bandwidth="1" width="-1"/>`), "width"},
	{"no addressing", video(rep + `</Representation>`), "no SegmentTemplate"},
	{"two ways at once", video(rep + `<SegmentList/><SegmentTemplate/></Representation>`), "keep one"},
	{"no media", template(`duration="1"`), "no media"},
	{"no number", template(`media="a" duration="1"`), "neither $Number$ nor $Time$"},
	{"single dollar", template(`media="$Number" duration="1"`), "single $"},
	{"unknown identifier", template(`media="$SubNumber$" duration="1"`), "not supported"},
	{"format of another kind", template(`media="$Number%x$" duration="1"`), "format"},
	{"format of a string", template(`media="$RepresentationID%02d$" duration="1"`), "format"},
	{"huge width", template(`media="$Number%0999d$" duration="1"`), "format"},
	{"number in init", template(`initialization="$Number$" media="$Number$" duration="1"`), "initialization"},
	{"index of segments", template(`media="$Number$" index="$Number$.sidx" duration="1"`), "index is not supported"},
	{"timescale 0", template(`timescale="0" media="$Number$" duration="1"`), "timescale is 0"},
	{"duration 0", template(`media="$Number$" duration="0"`), "duration is 0"},
	{"duration is no number", template(`media="$Number$" duration="1.5"`), "whole number"},
	{"no duration at all", strings.Replace(template(`media="$Number$" duration="1"`), `mediaPresentationDuration="PT10S"`, "", 1), "add MPD@mediaPresentationDuration"},
	{"no length of segments", strings.Replace(template(`media="$Number$"`), `mediaPresentationDuration="PT10S"`, "", 1), "how long segments are"},
	{"start number behind end", template(`media="$Number$" duration="1" startNumber="5" endNumber="4"`), "no segments"},
	{"too many segments", template(`timescale="1000000" media="$Number$" duration="1"`), "make them longer"},
	{"too many repeats", timeline(`<S d="1" r="131072"/>`), "more than 131072 segments"},
	{"absurd repeats", timeline(`<S d="1" r="99999999999999999999"/>`), "S@r"},
	{"entry without length", timeline(`<S t="1"/>`), "S@d"},
	{"entry of length 0", timeline(`<S d="0"/>`), "S@d"},
	{"time goes back", timeline(`<S t="5" d="2"/><S t="4" d="2"/>`), "back in time"},
	{"repeats to nowhere", timeline(`<S d="2" r="-1"/><S d="4"/>`), "repeats to an end"},
	{"absurd time", timeline(`<S t="4611686018427387904" d="9007199254740992" r="2000"/>`), "10 years"},
	{"time over the bound", timeline(`<S t="4611686018427387905" d="1"/>`), "S@t"},
	{"leaves the folder", template(`media="../$Number$" duration="1"`), "no file in the folder"},
	{"leaves the folder, encoded", template(`media="%2e%2e/$Number$" duration="1"`), "no file in the folder"},
	{"absolute", template(`media="http://example/$Number$" duration="1"`), "absolute"},
	{"absolute by root", template(`media="/$Number$" duration="1"`), "absolute"},
	{"encoded slash", template(`media="a%2F..%2F$Number$" duration="1"`), "encoded slash"},
	{"encoded NUL", template(`media="a%00$Number$" duration="1"`), "NUL"},
	{"encoded control character", template(`media="a%0A$Number$" duration="1"`), "control"},
	{"bad encoding", template(`media="%2$Number$" duration="1"`), "percent"},
	{"backslash", template(`media="..\$Number$" duration="1"`), "backslash"},
	{"query", template(`media="a?n=$Number$" duration="1"`), "query"},
	{"number cut out", template(`media="$Number$/../a" duration="1"`), "cut out"},
	{"long path", template(`media="` + strings.Repeat("a", 2000) + `$Number$" duration="1"`), "1024 bytes"},
	{"long base", head + `<BaseURL>` + strings.Repeat("a", 2000) + `</BaseURL><Period/></MPD>`, "1024 bytes"},
	{"more addresses than times", video(rep + `<SegmentList><SegmentTimeline><S d="1"/></SegmentTimeline><SegmentURL media="a"/><SegmentURL media="b"/></SegmentList></Representation>`), "times for 1"},
	{"empty list", video(rep + `<SegmentList duration="1"/></Representation>`), "no segments"},
	{"bad range", video(rep + `<SegmentList duration="10"><SegmentURL media="a" mediaRange="5-4"/></SegmentList></Representation>`), "first-last"},
	{"open range", video(rep + `<SegmentList duration="10"><SegmentURL media="a" mediaRange="5-"/></SegmentList></Representation>`), "first-last"},
	{"huge index", video(rep + `<BaseURL>f</BaseURL><SegmentBase indexRange="0-9999999"/></Representation>`), "indexRange"},
	{"no index range", video(rep + `<BaseURL>f</BaseURL><SegmentBase><Initialization range="0-5"/></SegmentBase></Representation>`), "no indexRange"},
	{"init in another file", video(rep + `<BaseURL>f</BaseURL><SegmentBase indexRange="0-5"><Initialization sourceURL="g"/></SegmentBase></Representation>`), "one file"},
	{"bad duration", strings.Replace(template(`media="$Number$" duration="1"`), "PT10S", "10", 1), "PT1H2M3.5S"},
	{"absurd duration", strings.Replace(template(`media="$Number$" duration="1"`), "PT10S", "P11Y", 1), "10 years"},
	{"periods without times", head + `<Period/><Period/></MPD>`, "Period 2 has no start"},
	{"periods out of order", head + `<Period start="PT5S"/><Period start="PT4S"/></MPD>`, "Period 2 starts before"},
	{"period behind the end", head + `<Period start="PT11S"/></MPD>`, "before the start"},
}

func timeline(s string) string {
	return video(rep + `<SegmentTemplate media="$Time$"><SegmentTimeline>` + s + `</SegmentTimeline></SegmentTemplate></Representation>`)
}

func manyAttributes(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf(` a%d=""`, i)
	}
	return s
}

func TestParseRejects(t *testing.T) {
	for _, tt := range rejected {
		t.Run(tt.name, func(t *testing.T) { rejects(t, []byte(tt.mpd), tt.says) })
	}
}

func rejects(t *testing.T, mpd []byte, says string) {
	t.Helper()
	_, err := dash.Parse(mpd)
	if !errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want one of format that says %q", err, says)
	}
}

func TestParseBoundsItsWork(t *testing.T) {
	list := strings.Repeat(`<SegmentURL media="a"/>`, 1000)
	for name, tt := range map[string]struct{ mpd, says string }{
		"size":            {strings.Repeat(" ", dash.MaxSize+1), "at most 8388608"},
		"elements":        {head + strings.Repeat("<a/>", 1<<20), "too many elements"},
		"attributes":      {head + strings.Repeat("=", 1<<20+1), "too many elements"},
		"representations": {video(`<SegmentTemplate media="$Number$" duration="10"/>` + many(`<Representation id="r%d" bandwidth="1"/>`, 1001)), "more than 1000 Representations"},
		"segments in all": {video(`<SegmentTemplate timescale="10000" media="$Number$" duration="1"/>` + many(`<Representation id="r%d" bandwidth="1"/>`, 11)), "segments in all"},
		"paths in all":    {video(`<SegmentTemplate timescale="10000" media="` + strings.Repeat("a", 900) + `$Number$" duration="1"/>` + many(`<Representation id="r%d" bandwidth="1"/>`, 1)), "paths of all segments"},
		"periods":         {head + strings.Repeat("<Period/>", 1001), "not XML"},
		"many periods":    {head + strings.Repeat("<Period/>", 1001) + "</MPD>", "1001 Periods"},
		"long lists":      {video(`<SegmentList duration="1">` + strings.Repeat(list, 132) + `</SegmentList>` + rep + `</Representation>`), "more than 131072 SegmentURLs"},
		// Each Representation inherits a long timeline that gives it nothing.
		"long timelines": {video(`<SegmentTemplate media="$Number$" startNumber="2" endNumber="1"><SegmentTimeline>` + strings.Repeat(`<S d="1"/>`, 400_000) + `</SegmentTimeline></SegmentTemplate>` + many(`<Representation id="r%d" bandwidth="1"/>`, 1000)), "no segments"},
	} {
		t.Run(name, func(t *testing.T) { rejects(t, []byte(tt.mpd), tt.says) })
	}
}

func many(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestFind(t *testing.T) {
	m := parse(t, head+`<Period><AdaptationSet mimeType="video/mp4">`+rep+`<SegmentTemplate initialization="init" media="%24Number-$Number$" duration="4"/></Representation>
		<Representation id="w" bandwidth="1"><BaseURL>w.mp4</BaseURL><SegmentList duration="5"><Initialization range="0-99"/><SegmentURL mediaRange="110-199"/><SegmentURL mediaRange="200-204"/></SegmentList></Representation>
		<Representation id="x" bandwidth="1"><SegmentList duration="5"><Initialization sourceURL="init"/><SegmentURL media="$Number-1"/><SegmentURL media="x"/></SegmentList></Representation>
		</AdaptationSet></Period></MPD>`)
	for _, tt := range []struct {
		path   string
		offset int64
		want   string
	}{
		{"init", 0, "v -1"}, // the first that shares it
		{"$Number-1", 0, "v 0"},
		{"$Number-3", 1 << 40, "v 2"},
		{"x", 5, "x 1"},
		{"w.mp4", 0, "w -1"},
		{"w.mp4", 99, "w -1"},
		{"w.mp4", 100, "none"}, // a gap
		{"w.mp4", 110, "w 0"},
		{"w.mp4", 199, "w 0"},
		{"w.mp4", 200, "w 1"},
		{"w.mp4", 205, "none"},
		{"w.mp4", -1, "none"},
		{"./w.mp4", 0, "none"},
		{"$Number-4", 0, "none"},
		{"", 0, "none"},
	} {
		got := "none"
		if r, i, ok := m.Find(tt.path, tt.offset); ok {
			got = fmt.Sprint(r.ID, " ", i)
		}
		if got != tt.want {
			t.Errorf("byte %d of %q is %s, want %s", tt.offset, tt.path, got, tt.want)
		}
	}
}

func TestPublishable(t *testing.T) {
	two := func(a, b string) string {
		return video(`<Representation id="a" bandwidth="1">` + a + `</Representation><Representation id="b" bandwidth="2">` + b + `</Representation>`)
	}
	ranges := func(init, media string) string {
		return `<BaseURL>f</BaseURL><SegmentList duration="10"><Initialization range="` + init + `"/><SegmentURL mediaRange="` + media + `"/></SegmentList>`
	}
	for name, tt := range map[string]struct{ mpd, says string }{
		"plain":                     {template(`media="$Number$" duration="2"`), ""},
		"shared segments":           {two(ranges("0-9", "10-19"), ranges("0-9", "10-19")), ""},
		"one file, separate":        {two(ranges("0-9", "10-19"), ranges("0-9", "20-29")), ""},
		"shared init":               {video(`<SegmentTemplate initialization="i" media="$RepresentationID$$Number$" duration="5"/>` + rep + `</Representation><Representation id="w" bandwidth="1"/>`), ""},
		"overlap":                   {two(ranges("0-9", "10-19"), ranges("0-9", "15-29")), "overlap"},
		"init is another's segment": {two(ranges("0-9", "10-19"), ranges("0-4", "5-9")), "overlap"},
		"whole file and a part":     {two(ranges("0-9", "10-19"), `<BaseURL>f</BaseURL>`), "overlap"},
		"init not in front":         {two(ranges("20-29", "10-19"), `<BaseURL>g</BaseURL>`), "not at its begin"},
		"absolute":                  {head + `<BaseURL>http://example/</BaseURL><Period><AdaptationSet>` + rep + `<BaseURL>f</BaseURL></Representation></AdaptationSet></Period></MPD>`, "remove it"},
		"name of ours":              {template(`media="sealed/$Number$" duration="2"`), "rename it"},
		"signature":                 {template(`initialization="manifest.mpd.sig" media="$Number$" duration="2"`), "rename it"},
	} {
		t.Run(name, func(t *testing.T) {
			err := parse(t, tt.mpd).Publishable()
			if (err == nil) != (tt.says == "") {
				t.Fatal(err)
			}
			if err != nil && (!errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
}

package dash_test

import (
	"fmt"
	"strings"
	"testing"

	"htlcdash/internal/dash"
)

func TestTitle(t *testing.T) {
	const mpd = `<?xml version="1.0"?>
<%[1]sMPD xmlns%[2]s="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" profiles="x" minBufferTime="PT2S">%[3]s
  <%[1]sBaseURL>media/</%[1]sBaseURL>
  <%[1]sPeriod><%[1]sAdaptationSet contentType="video" mimeType="video/mp4"><%[1]sRepresentation id="v" bandwidth="1" codecs="c">
    <%[1]sSegmentTemplate duration="2" media="$Number$.m4s"/></%[1]sRepresentation></%[1]sAdaptationSet></%[1]sPeriod>
</%[1]sMPD>`
	for _, c := range []struct {
		name, prefix, info string
		title              string // as it is
	}{
		{"none", "", "", ""},
		{"prefixed", "d:", "", ""},
		{"without a title", "", `<ProgramInformation lang="en"><Source>S</Source></ProgramInformation>`, ""},
		{"empty", "", `<ProgramInformation><Title/></ProgramInformation>`, ""},
		{"one", "", `<ProgramInformation><Title> Big
  Buck Bunny </Title><Source>S</Source></ProgramInformation>`, "Big Buck Bunny"},
		{"foreign", "", `<ProgramInformation><x:Title xmlns:x="urn:x">no</x:Title></ProgramInformation>`, ""},
		{"turned around", "", "<ProgramInformation><Title>a\u202eb</Title></ProgramInformation>", "ab"},
		{"endless", "", "<ProgramInformation><Title>" + strings.Repeat("ä", 1000) + "</Title></ProgramInformation>", strings.Repeat("ä", 200)},
	} {
		t.Run(c.name, func(t *testing.T) {
			colon := ""
			if c.prefix != "" {
				colon = ":d"
			}
			m := parse(t, fmt.Sprintf(mpd, c.prefix, colon, c.info))
			if got := m.Title(); got != c.title {
				t.Errorf("got %q, want %q", got, c.title)
			}
			const name = `Ben & <Jerry> "4"`
			named, err := m.WithTitle(name)
			if err != nil || named.Title() != name {
				t.Fatalf("got %q, %v", named.Title(), err)
			}
			if m.Title() != c.title {
				t.Error("the first manifest was changed")
			}
			b, err := named.ForPlayer(dash.PlayerOptions{})
			if err != nil {
				t.Fatal(err)
			}
			// The schema wants this order.
			info, title, period := strings.Index(string(b), c.prefix+"ProgramInformation"), strings.Index(string(b), "Title>Ben"), strings.Index(string(b), c.prefix+"Period")
			if source := strings.Index(string(b), "<Source"); !(0 < info && info < title && title < period && (source < 0 || title < source)) {
				t.Errorf("in another order than the schema wants:\n%s", b)
			}
		})
	}
}

package player_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/plain"
	"htlcdash/internal/player"
	"htlcdash/internal/playertest"
	"htlcdash/internal/title"
)

// folder writes a plain title of n segments of 400 ms of video in four rungs, and
// of sound, whose sizes its MPD tells. It has no media in it.
func folder(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	list := func(id string, rate float64) string {
		var mpd, file strings.Builder
		fmt.Fprintf(&mpd, `<SegmentList timescale="10" duration="4"><Initialization sourceURL="%s.mp4" range="0-99"/>`, id)
		file.WriteString(strings.Repeat("i", 100))
		for i := range n {
			size := int(rate * 0.4 / 8 * (0.6 + 0.8*r.Float64()))
			fmt.Fprintf(&mpd, `<SegmentURL media="%s.mp4" mediaRange="%d-%d"/>`, id, file.Len(), file.Len()+size-1)
			file.WriteString(strings.Repeat(string(rune('a'+i%26)), size))
		}
		if err := os.WriteFile(filepath.Join(dir, id+".mp4"), []byte(file.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return mpd.String() + `</SegmentList>`
	}
	var mpd strings.Builder
	fmt.Fprintf(&mpd, `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT%.1fS" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>`, float64(n)*0.4)
	mpd.WriteString(`<AdaptationSet contentType="video" mimeType="video/mp4">`)
	for i, rate := range []float64{1e6, 2.5e6, 6e6, 14e6} {
		id := fmt.Sprint("v", i)
		fmt.Fprintf(&mpd, `<Representation id="%s" bandwidth="%.0f" height="%d" codecs="avc1.640015">%s</Representation>`, id, rate, 240*(i+1), list(id, rate))
	}
	mpd.WriteString(`</AdaptationSet><AdaptationSet contentType="audio" mimeType="audio/mp4">`)
	fmt.Fprintf(&mpd, `<Representation id="a0" bandwidth="400000" codecs="mp4a.40.2">%s</Representation></AdaptationSet></Period></MPD>`, list("a0", 4e5))
	if err := os.WriteFile(filepath.Join(dir, "x.mpd"), []byte(mpd.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// quick is a network of 3 to 12 Mbit/s that dies for a second: one of a telephone,
// five times as fast.
var quick = []replay.Stretch{
	{Duration: 2 * time.Second, Rate: 9e6, Latency: 20 * time.Millisecond},
	{Duration: 1500 * time.Millisecond, Rate: 4e6, Latency: 30 * time.Millisecond},
	{Duration: 2500 * time.Millisecond, Rate: 12e6, Latency: 20 * time.Millisecond},
	{Duration: 2500 * time.Millisecond, Rate: 3e6, Latency: 40 * time.Millisecond},
	{Duration: 1 * time.Second, Rate: 0, Latency: 40 * time.Millisecond},
	{Duration: 3 * time.Second, Rate: 7e6, Latency: 20 * time.Millisecond},
}

// Over a shaped link on loopback, in real time, the player gets what the simulator
// says of that link.
func TestPlayOverAShapedLink(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.Dir(folder(t, 36))))
	t.Cleanup(server.Close)
	for _, policy := range []string{"agent", "rate", "mpc"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			for range playertest.Attempts {
				if playShaped(t, strings.TrimPrefix(server.URL, "http://"), policy) || playertest.Raced {
					return
				}
			}
			t.Error("the simulator foretells something else")
		})
	}
}

// playShaped plays once, and reports whether that was foretold.
func playShaped(t *testing.T, server, policy string) (foretold bool) {
	t.Helper()
	line := playertest.Shape(t, server, quick)
	film, err := plain.Open(t.Context(), "http://"+line.Address+"/x.mpd", nil)
	if err != nil {
		t.Fatal(err)
	}
	ladder, err := title.OpenLadder(film.Manifest, "")
	if err != nil {
		t.Fatal(err)
	}
	const most = 4 * time.Second
	got, err := player.Play(t.Context(), player.Config{
		Menu: player.NewMenu(ladder), Stock: player.Open{Title: film}, Policy: choose(t, policy, ladder.Title), Most: most,
		Event: func(e player.Event) {
			if e.What == player.Began {
				line.Begin()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Played < got.Length {
		t.Errorf("played %v of %v", got.Played, got.Length)
	}
	return playertest.Compare(t, got, ladder.Title, choose(t, policy, ladder.Title), quick, replay.Setup{Budget: agent.NoLimit, Most: most}, 0)
}

func choose(t testing.TB, name string, film *agent.Title) agent.Policy {
	t.Helper()
	if name == "agent" {
		return agent.New(film, agent.Preferences{})
	}
	p, err := agent.Rule(name, film, agent.Standard)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

//go:build itest

package itest

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"htlcdash/lightning"
)

// TestStockPlayers plays the film in players that know nothing of money. They
// say little and end well even when they lose segments, so they are judged by
// what our books and logs say they got.
func TestStockPlayers(t *testing.T) {
	s := newStage(t, publishedFilm(t))
	provider := s.serve(t, freeAddress(t))
	var paid lightning.Msat
	for _, player := range []struct {
		name    string
		command func(url string) []string
		frame   string // what each frame's line of output begins with; empty: it says nothing of frames
	}{
		{"ffmpeg", func(url string) []string {
			return []string{"ffmpeg", "-v", "error", "-nostdin", "-i", url, "-map", "0:v:0", "-map", "0:a:0", "-f", "framecrc", "-"}
		}, "0,"},
		{"mpv", func(url string) []string {
			return []string{"mpv", "--no-config", "--ytdl=no", "--vo=null", "--ao=null", "--untimed", "--really-quiet", url}
		}, ""},
		{"gstreamer", func(url string) []string {
			return []string{
				"gst-launch-1.0", "-q", "playbin3", "uri=" + url,
				"video-sink=fakevideosink sync=false", "audio-sink=fakesink sync=false",
			}
		}, ""},
	} {
		t.Run(player.name, func(t *testing.T) {
			viewer := s.proxy(t, player.name, provider, nil)
			args := player.command(viewer.url + "/t/" + filmName + "/manifest.mpd")
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Fatalf("%v: run apt-get install ffmpeg mpv gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} gstreamer1.0-libav", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			var complaints bytes.Buffer
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			t.Logf("%s: %v %s", player.name, err, bytes.TrimSpace(complaints.Bytes()))
			if player.frame != "" {
				if n := bytes.Count(out, []byte("\n"+player.frame)); n != filmFrames {
					t.Errorf("%d frames came out of %d", n, filmFrames)
				}
			}
			bought := purchases(t, s.books(player.name))
			opens := groups(t, s.titles)
			if gaps := missing(bought, opens, false); gaps != nil {
				t.Errorf("no picture of segments %v", gaps)
			}
			if gaps := missing(bought, opens, true); gaps != nil {
				t.Errorf("no sound of segments %v", gaps)
			}
			cost := spent(t, bought)
			if log := readFile(t, viewer.log); refusal.Match(log) {
				t.Errorf("the player was refused something: %s", refusal.Find(log))
			}
			paid += cost
			if got := received(t, admin(t, s.network, "provider"), paid); got != paid {
				t.Errorf("the books say %v, the provider's node received %v", paid, got)
			}
		})
	}
}

// refusal is an answer of the proxy that costs a player a segment.
var refusal = regexp.MustCompile(`.*status=(402|5\d\d).*`)

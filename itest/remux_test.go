//go:build itest

package itest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"htlcdash/internal/remux"
)

// TestPlayersTakeOneStream pipes a stream that changes its rung at each segment
// into players. They must follow each change and have nothing to complain of.
func TestPlayersTakeOneStream(t *testing.T) {
	dir := t.TempDir()
	args := "-v error -nostdin -f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=440:r=48000 -t 8 -map 0:v -map 0:v -map 1:a " +
		"-c:v libx264 -preset veryfast -g 50 -keyint_min 50 -sc_threshold 0 -s:v:0 160x90 -s:v:1 320x180 -c:a aac -f dash -use_timeline 0 -seg_duration 2 mpd"
	encode := exec.Command("ffmpeg", strings.Fields(args)...)
	encode.Dir = dir
	if out, err := encode.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	var stream bytes.Buffer
	join(t, dir, &stream)

	for _, player := range []struct {
		name    string
		command string
		changes string // matches a line for each resolution in turn
	}{
		{"mpv", "mpv --no-config --vo=null --ao=null --untimed --msg-level=all=warn,cplayer=info --no-terminal --log-file=%s -", `VO: \[null\] \d+x(90|180) `},
		{"ffplay", "ffplay -v error -autoexit -", ``},
		{"gstreamer", "gst-launch-1.0 -v playbin3 uri=fd://0 audio-sink=fakesink video-sink=fakesink", `FakeSink.*sink: caps = video/x-raw,.*height=\(int\)(90|180),`},
	} {
		t.Run(player.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			words := strings.Fields(strings.Replace(player.command, "%s", log, 1))
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Fatalf("%v: run apt-get install ffmpeg mpv gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} gstreamer1.0-libav", err)
			}
			cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
			cmd.Env = append(os.Environ(), "SDL_VIDEODRIVER=dummy", "SDL_AUDIODRIVER=dummy")
			var out, complaints bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stream.Bytes()), &out, &complaints
			if err := cmd.Run(); err != nil || complaints.Len() > 0 {
				t.Errorf("%v, and it says %s", err, complaints.Bytes())
			}
			said, err := os.ReadFile(log)
			if err == nil {
				out.Write(said)
			}
			if player.changes == "" {
				return
			}
			var heights []string
			for _, m := range regexp.MustCompile(player.changes).FindAllSubmatch(out.Bytes(), -1) {
				heights = append(heights, string(m[1]))
			}
			if want := []string{"90", "180", "90", "180"}; !slices.Equal(heights, want) {
				t.Errorf("it showed %v lines, want %v", heights, want)
			}
		})
	}
}

// join makes one stream of the folder that ffmpeg made: video from its two
// rungs in turn.
func join(t *testing.T, dir string, out *bytes.Buffer) {
	t.Helper()
	read := func(name string, args ...any) []byte {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf(name, args...)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rung := func(i int) remux.Representation {
		return remux.Representation{ID: fmt.Sprint(i), Init: read("init-stream%d.m4s", i)}
	}
	w, err := remux.New(out,
		remux.Track{Kind: remux.Video, Representations: []remux.Representation{rung(0), rung(1)}},
		remux.Track{Kind: remux.Audio, Representations: []remux.Representation{rung(2)}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		for track, id := range []int{i % 2, 2} {
			if err := w.Segment(track, fmt.Sprint(id), read("chunk-stream%d-%05d.m4s", id, i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

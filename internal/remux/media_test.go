package remux_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"htlcdash/internal/dash"
	"htlcdash/internal/remux"
)

var mediaDir string

func TestMain(m *testing.M) {
	for _, p := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(p); err != nil {
			fmt.Fprintf(os.Stderr, "these tests need %s: apt-get install ffmpeg\n", p)
			os.Exit(1)
		}
	}
	var err error
	if mediaDir, err = os.MkdirTemp("", "htlcdash-remux-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(mediaDir)
	os.Exit(code)
}

// What the tests play: 6 s in segments of 2 s, at 25 frames a second.
const (
	seconds  = 6
	frames   = 25 * seconds
	segments = 3
)

// A rung is one Representation as it lies in a DASH folder.
type rung struct {
	init     []byte
	segments [][]byte
}

// whole is the rung in one file, as if it had never been cut.
func (r rung) whole() []byte { return bytes.Join(append([][]byte{r.init}, r.segments...), nil) }

func (r rung) representation(id string) remux.Representation {
	return remux.Representation{ID: id, Init: r.init}
}

// ladders are what ffmpeg is told; each has two rungs of video and two of audio.
var ladders = map[string]string{
	"h264": "-c:v libx264 -preset ultrafast -tune zerolatency -x264-params bframes=2:aud=1:keyint=50:min-keyint=50:scenecut=0 -c:a aac -ac 2 -b:a:0 64k -b:a:1 128k",
	// one rung without B frames, so without a delay of the decoder, and sound in two sample rates
	"uneven": "-c:v libx264 -preset ultrafast -g 50 -keyint_min 50 -sc_threshold 0 -bf:v:0 0 -bf:v:1 3 -b_strategy 0 -c:a aac -ar:a:0 24000 -ac:a:0 1 -ar:a:1 48000 -ac:a:1 2",
	// the least that a fuzzer needs
	"tiny": "-c:v libx264 -preset ultrafast -g 2 -c:a aac -ac 1 -b:a 16k",
	"hevc": "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=50:min-keyint=50:scenecut=0:open-gop=0 -c:a libopus -ac 2 -b:a:0 48k -b:a:1 96k",
	"vp9":  "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 50 -c:a ac3 -ac 2 -b:a:0 96k -b:a:1 192k",
	"av1":  "-c:v libsvtav1 -preset 12 -g 50 -c:a flac -strict -2 -ac 2",
}

// fullLadders names the ladders of full length.
func fullLadders() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(ladders)), func(name string) bool { return name == "tiny" })
}

var (
	made   = map[string]func() ([]rung, error){}
	madeMu sync.Mutex
)

// ladder makes a DASH folder with ffmpeg, once for all tests: rungs 0 and 1
// are video of 160x90 and 320x180, rungs 2 and 3 are audio.
func ladder(t testing.TB, name string) []rung {
	t.Helper()
	length := map[bool]string{false: fmt.Sprint(seconds), true: "0.12"}[name == "tiny"]
	madeMu.Lock()
	if made[name] == nil {
		made[name] = sync.OnceValues(func() ([]rung, error) { return makeLadder(filepath.Join(mediaDir, name), ladders[name], length) })
	}
	f := made[name]
	madeMu.Unlock()
	rungs, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return rungs
}

func makeLadder(dir, codecs, length string) (rungs []rung, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	args := fmt.Sprintf("-v error -nostdin -f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=440:r=48000 -t %s -map 0:v -map 0:v -map 1:a -map 1:a -s:v:0 160x90 -s:v:1 320x180 %s", length, codecs)
	args += " -use_timeline 0 -seg_duration 2 -dash_segment_type mp4 -f dash"
	cmd := exec.Command("ffmpeg", append(strings.Fields(args), "-adaptation_sets", "id=0,streams=v id=1,streams=a", "mpd")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	for i := range 4 {
		init, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("init-stream%d.m4s", i)))
		if err != nil {
			return nil, err
		}
		r := rung{init: init}
		names, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("chunk-stream%d-*.m4s", i)))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			r.segments = append(r.segments, b)
		}
		rungs = append(rungs, r)
	}
	return rungs, nil
}

// ffmpeg runs a program of that family on what it gets from a pipe. What it
// says on stderr is an error.
func ffmpeg(t testing.TB, stream []byte, program string, args ...string) string {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.Command(program, append([]string{"-v", "error"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stream), &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Errorf("%s: %v\n%.2000s", program, err, complaints.String())
	}
	return out.String()
}

// A picture is one decoded frame of video, or packet of audio.
type picture struct {
	pts  int64 // in frames
	size int   // bytes
	hash string
}

// decode decodes one stream ("v" or "a").
func decode(t testing.TB, stream []byte, kind string) (out []picture) {
	t.Helper()
	args := []string{"-nostdin", "-copyts", "-i", "-", "-map", "0:" + kind, "-vsync", "passthrough", "-autoscale", "0", "-f", "framemd5", "-"}
	for line := range strings.Lines(ffmpeg(t, stream, "ffmpeg", args...)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 6 || f[0] != "0" {
			continue
		}
		pts, err1 := strconv.ParseInt(strings.TrimSpace(f[2]), 10, 64)
		size, err2 := strconv.Atoi(strings.TrimSpace(f[4]))
		if err1 != nil || err2 != nil {
			t.Fatalf("line %q", line)
		}
		out = append(out, picture{pts, size, f[5]})
	}
	return out
}

// packetTimes lists when packets are shown, in seconds.
func packetTimes(t testing.TB, stream []byte, kind string) (out []float64) {
	t.Helper()
	text := ffmpeg(t, stream, "ffprobe", "-select_streams", kind, "-show_entries", "packet=pts_time", "-of", "csv=p=0", "-")
	for line := range strings.Lines(text) {
		s, err := strconv.ParseFloat(strings.Trim(line, ",\n"), 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// A piece is one fragment of what was written.
type piece struct {
	sequence, track uint32
	time            uint64
}

// pieces lists the fragments, and checks that they are all in one row.
func pieces(t testing.TB, stream []byte) (out []piece) {
	t.Helper()
	for box, err := range dash.Boxes(stream) {
		if err != nil || box.Offset+box.Size > int64(len(stream)) {
			t.Fatalf("box %s: %v", box.Type, err)
		}
		if box.Type != "moof" {
			continue
		}
		// moof { mfhd 16, traf { tfhd 8+4+8, tfdt 8+4+8 } }
		b := box.Body
		p := piece{sequence: be.Uint32(b[12:]), track: be.Uint32(b[16+8+12:]), time: be.Uint64(b[16+8+20+12:])}
		if p.sequence != uint32(len(out)+1) {
			t.Fatalf("fragment %d has number %d", len(out)+1, p.sequence)
		}
		out = append(out, p)
	}
	return out
}

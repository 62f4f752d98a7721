package remux_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/dash"
	"htlcdash/internal/remux"
)

var be = binary.BigEndian

// newWriter makes a Writer for rungs named by their numbers.
func newWriter(t testing.TB, out io.Writer, rungs []rung, video, audio []int) *remux.Writer {
	t.Helper()
	var tracks []remux.Track
	for _, x := range []struct {
		kind remux.Kind
		ids  []int
	}{{remux.Video, video}, {remux.Audio, audio}} {
		track := remux.Track{Kind: x.kind}
		for _, id := range slices.Compact(slices.Sorted(slices.Values(x.ids))) {
			track.Representations = append(track.Representations, rungs[id].representation(fmt.Sprint(id)))
		}
		if x.ids != nil {
			tracks = append(tracks, track)
		}
	}
	w, err := remux.New(out, tracks...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// play writes segment i from rung video[i], and from audio[i].
func play(t testing.TB, rungs []rung, video, audio []int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := newWriter(t, &out, rungs, video, audio)
	track := 0
	for _, ids := range [][]int{video, audio} {
		for i, id := range ids {
			if i >= len(rungs[id].segments) || !bytes.Contains(rungs[id].segments[i], []byte("moof")) {
				break // ffmpeg may write one more, of a few bytes, that no MPD names
			}
			if err := w.Segment(track, fmt.Sprint(id), rungs[id].segments[i]); err != nil {
				t.Fatal(err)
			}
		}
		if ids != nil {
			track++
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestSwitches holds for each codec: no frame is lost or late over switches,
// and each is, to the bit, the one of the rung that its segment came from.
func TestSwitches(t *testing.T) {
	for _, name := range fullLadders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rungs := ladder(t, name)
			order := []int{0, 1, 0}
			stream := play(t, rungs, order, []int{2, 3, 2, 3})
			pieces(t, stream)
			got := decode(t, stream, "v")
			if len(got) != frames {
				t.Fatalf("%d frames, want %d", len(got), frames)
			}
			from := [][]picture{decode(t, rungs[0].whole(), "v"), decode(t, rungs[1].whole(), "v")}
			for i, p := range got {
				want := from[order[i/(frames/segments)]][i]
				if p.size != want.size || p.hash != want.hash {
					t.Fatalf("frame %d is not that of rung %d: %d bytes, want %d", i, order[i/(frames/segments)], p.size, want.size)
				}
				if p.pts != int64(i) {
					t.Fatalf("frame %d is shown as %d", i, p.pts)
				}
			}
			if n := len(decode(t, stream, "a")); n == 0 {
				t.Error("no sound")
			}
		})
	}
}

// TestSoundStaysInStep holds that packets are shown when their rung shows them.
func TestSoundStaysInStep(t *testing.T) {
	for _, name := range fullLadders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rungs := ladder(t, name)
			stream := play(t, rungs, []int{1, 1, 1}, []int{3, 3, 3, 3})
			for kind, id := range map[string]int{"v": 1, "a": 3} {
				got, want := packetTimes(t, stream, kind), packetTimes(t, rungs[id].whole(), kind)
				slices.Sort(got)
				slices.Sort(want)
				if len(got) != len(want) {
					t.Fatalf("%s: %d packets, want %d", kind, len(got), len(want))
				}
				for i := range got {
					if math.Abs(got[i]-want[i]) > 1e-3 {
						t.Fatalf("%s: packet %d is shown at %v s, want %v", kind, i, got[i], want[i])
					}
				}
			}
		})
	}
}

// TestSoundInTwoForms holds that sound goes on when its sample rate changes.
func TestSoundInTwoForms(t *testing.T) {
	rungs := ladder(t, "uneven")
	for _, order := range [][]int{{2, 3, 2, 3}, {3, 2, 3, 2}} {
		times := packetTimes(t, play(t, rungs, nil, order), "a")
		for i := 1; i < len(times); i++ {
			if gap := times[i] - times[i-1]; gap <= 0 || gap > 0.065 {
				t.Errorf("packet %d is shown %v s after that before it", i, gap)
			}
		}
		if last := times[len(times)-1]; last < seconds-0.1 {
			t.Errorf("sound ends at %v s", last)
		}
	}
}

func TestSoundAlone(t *testing.T) {
	rungs := ladder(t, "h264")
	stream := play(t, rungs, nil, []int{2, 2, 3, 3})
	if got, want := len(decode(t, stream, "a")), len(decode(t, rungs[2].whole(), "a")); got != want {
		t.Errorf("%d packets, want %d", got, want)
	}
	if text := ffmpeg(t, stream, "ffprobe", "-show_entries", "stream=codec_type", "-of", "csv=p=0", "-"); strings.TrimSpace(text) != "audio" {
		t.Errorf("streams: %q", text)
	}
}

// TestPeriods plays one ladder after another: a second Period begins at 6 s,
// its times are counted from 0 again, and its sound begins with a new delay.
func TestPeriods(t *testing.T) {
	rungs := ladder(t, "h264")
	var out bytes.Buffer
	tracks := []remux.Track{{Kind: remux.Video}, {Kind: remux.Audio}}
	for i := range tracks {
		for period := range 2 {
			r := rungs[2*i].representation(fmt.Sprint(period))
			r.Offset = time.Duration(period) * seconds * time.Second
			tracks[i].Representations = append(tracks[i].Representations, r)
		}
	}
	w, err := remux.New(&out, tracks...)
	if err != nil {
		t.Fatal(err)
	}
	for period := range 2 {
		for track := range tracks {
			for _, b := range rungs[2*track].segments {
				if err := w.Segment(track, fmt.Sprint(period), b); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := decode(t, out.Bytes(), "v")
	if len(got) != 2*frames {
		t.Errorf("%d frames, want %d", len(got), 2*frames)
	}
	for i, p := range got {
		if p.pts != int64(i) {
			t.Fatalf("frame %d is shown as %d", i, p.pts)
		}
	}
	times := packetTimes(t, out.Bytes(), "a")
	for i := 1; i < len(times); i++ {
		if gap := times[i] - times[i-1]; gap <= 0 || gap > 0.033 { // a packet lasts 21.3 ms, less at the end
			t.Errorf("packet %d is shown %v s after that before it", i, gap)
		}
	}
	if last := times[len(times)-1]; math.Abs(last-2*seconds) > 0.03 {
		t.Errorf("sound ends at %v s", last)
	}
}

// TestTracksAreInterleaved holds that a player never has to read far for the
// other track, whatever the order in which segments came.
func TestTracksAreInterleaved(t *testing.T) {
	rungs := ladder(t, "h264")
	got := pieces(t, play(t, rungs, []int{0, 0, 0}, []int{2, 2, 2, 2}))
	scale := map[uint32]float64{1: 12800, 2: 48000}
	for i, p := range got {
		for _, later := range got[i:] {
			if a, b := float64(p.time)/scale[p.track], float64(later.time)/scale[later.track]; b < a-0.1 {
				t.Errorf("fragment %d of %v s comes behind one of %v s", later.sequence, b, a)
			}
		}
	}
}

// TestNothingIsHeldBackForEver holds that a track that has ended, or comes
// late, keeps the other one back for a while only.
func TestNothingIsHeldBackForEver(t *testing.T) {
	rungs := ladder(t, "h264")
	var out bytes.Buffer
	track := func(kind remux.Kind, rung int) remux.Track {
		tr := remux.Track{Kind: kind}
		for i := range 5 {
			r := rungs[rung].representation(fmt.Sprint(i))
			r.Offset = time.Duration(i*seconds) * time.Second
			tr.Representations = append(tr.Representations, r)
		}
		return tr
	}
	w, err := remux.New(&out, track(remux.Video, 0), track(remux.Audio, 2))
	if err != nil {
		t.Fatal(err)
	}
	head := out.Len()
	var came time.Duration
	for period := range 5 {
		for _, b := range rungs[0].segments {
			if err := w.Segment(0, fmt.Sprint(period), b); err != nil {
				t.Fatal(err)
			}
			came += 2 * time.Second
			if came < 8*time.Second && out.Len() > head {
				t.Fatalf("video was written before any audio, after %v", came)
			}
		}
	}
	got := pieces(t, out.Bytes())
	if last := float64(got[len(got)-1].time) / 12800; last < came.Seconds()-12 {
		t.Errorf("of %v, video until %v s was written", came, last)
	}
}

func TestWriteErrorStays(t *testing.T) {
	rungs := ladder(t, "h264")
	broken := errors.New("broken pipe")
	out := &limited{room: 3000, err: broken}
	w := newWriter(t, out, rungs, []int{0}, nil)
	for range 2 {
		if err := w.Segment(0, "0", rungs[0].segments[0]); !errors.Is(err, broken) {
			t.Errorf("error %v, want that of the pipe", err)
		}
	}
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the pipe", err)
	}
}

// limited is a pipe that breaks.
type limited struct {
	room int
	err  error
}

func (l *limited) Write(b []byte) (int, error) {
	if l.room -= len(b); l.room < 0 {
		return 0, l.err
	}
	return len(b), nil
}

// TestSegmentRefused holds that a bad segment is refused as a whole: the next
// one is written as if it had not been there.
func TestSegmentRefused(t *testing.T) {
	rungs := ladder(t, "h264")
	first, second := rungs[0].segments[0], rungs[0].segments[1]
	for name, tt := range map[string]struct {
		id   string
		data []byte
		want error
		says string
	}{
		"unknown Representation": {"9", second, remux.ErrUnsupported, `no Representation "9"`},
		"again":                  {"0", first, remux.ErrMedia, "before the end of what came already"},
		"cut off":                {"0", second[:len(second)-1], remux.ErrMedia, "cut off"},
		"empty":                  {"0", nil, remux.ErrMedia, "no moof"},
		"of another track":       {"0", rungs[2].segments[1][:100], remux.ErrMedia, "cut off"},
		"noise":                  {"0", []byte("this is not a segment of anything"), remux.ErrMedia, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			var got, want bytes.Buffer
			for _, out := range []*bytes.Buffer{&got, &want} {
				w := newWriter(t, out, rungs, []int{0}, nil)
				if err := w.Segment(0, "0", first); err != nil {
					t.Fatal(err)
				}
				if out == &got {
					if err := w.Segment(0, tt.id, tt.data); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
						t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
					}
				}
				if err := w.Segment(0, "0", second); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Error("it left a trace in the stream")
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	h264, hevc := ladder(t, "h264"), ladder(t, "hevc")
	encrypted := bytes.Replace(h264[0].init, []byte("avc1"), []byte("encv"), 1)
	plain := bytes.Replace(h264[0].init, []byte("mvex"), []byte("free"), 1)
	for name, tt := range map[string]struct {
		kind  remux.Kind
		inits [][]byte
		want  error
		says  string
	}{
		"none":           {remux.Video, nil, remux.ErrUnsupported, "no Representations"},
		"WebM":           {remux.Video, [][]byte{[]byte("\x1a\x45\xdf\xa3\x01\x00\x00\x00")}, remux.ErrUnsupported, "WebM"},
		"two codecs":     {remux.Video, [][]byte{h264[0].init, hevc[0].init}, remux.ErrUnsupported, "codec"},
		"encrypted":      {remux.Video, [][]byte{encrypted}, remux.ErrUnsupported, "encrypted"},
		"not fragmented": {remux.Video, [][]byte{plain}, remux.ErrUnsupported, "fragmented"},
		"other kind":     {remux.Video, [][]byte{h264[2].init}, remux.ErrMedia, "no track of video"},
		"cut off":        {remux.Video, [][]byte{h264[0].init[:200]}, remux.ErrMedia, "cut off"},
		"empty":          {remux.Video, [][]byte{nil}, remux.ErrMedia, "no moov"},
	} {
		t.Run(name, func(t *testing.T) {
			track := remux.Track{Kind: tt.kind}
			for i, init := range tt.inits {
				track.Representations = append(track.Representations, remux.Representation{ID: fmt.Sprint(i), Init: init})
			}
			if _, err := remux.New(io.Discard, track); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
	if _, err := remux.New(io.Discard); !errors.Is(err, remux.ErrUnsupported) {
		t.Errorf("no tracks: %v", err)
	}
}

// TestForms plays fragments as different muxers write them, of a file that
// holds video and audio: two trafs in a moof, and data found in several ways.
func TestForms(t *testing.T) {
	rungs := ladder(t, "h264")
	both := play(t, rungs, []int{1, 1, 1}, []int{2, 2, 2, 2})
	want := [2][]picture{decode(t, both, "v"), decode(t, both, "a")}
	for _, flags := range []string{"", "+default_base_moof", "+omit_tfhd_offset", "+separate_moof", "+negative_cts_offsets+delay_moov", "+cmaf", "+frag_custom"} {
		t.Run(flags, func(t *testing.T) {
			file := ffmpeg(t, both, "ffmpeg", "-nostdin", "-i", "-", "-c", "copy", "-tag:v", "avc1", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"+flags, "pipe:1")
			init, segments := cut(t, []byte(file))
			var out bytes.Buffer
			w, err := remux.New(&out,
				remux.Track{Kind: remux.Video, Representations: []remux.Representation{{ID: "x", Init: init}}},
				remux.Track{Kind: remux.Audio, Representations: []remux.Representation{{ID: "x", Init: init}}})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range segments {
				for track := range 2 {
					if err := w.Segment(track, "x", b); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for track, kind := range []string{"v", "a"} {
				got := decode(t, out.Bytes(), kind)
				if len(got) != len(want[track]) {
					t.Errorf("%s: %d frames, want %d", kind, len(got), len(want[track]))
				}
				for i := range min(len(got), len(want[track])) {
					if got[i].hash != want[track][i].hash {
						t.Fatalf("%s: frame %d is another", kind, i)
					}
				}
			}
		})
	}
}

// cut cuts a fragmented file into its head and its fragments.
func cut(t testing.TB, file []byte) (init []byte, segments [][]byte) {
	t.Helper()
	from := int64(0)
	for box, err := range dash.Boxes(file) {
		if err != nil {
			t.Fatal(err)
		}
		switch end := box.Offset + box.Size; box.Type {
		case "moov":
			init, from = file[:end], end
		case "mdat":
			segments = append(segments, file[from:end])
			from = end
		}
	}
	return init, segments
}

func BenchmarkSegment(b *testing.B) {
	rungs := ladder(b, "h264")
	segment := rungs[1].segments[0]
	b.SetBytes(int64(len(segment)))
	for b.Loop() {
		w := newWriter(b, io.Discard, rungs, []int{1}, nil)
		if err := w.Segment(0, "1", segment); err != nil {
			b.Fatal(err)
		}
	}
}

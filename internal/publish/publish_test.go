package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
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
	if mediaDir, err = os.MkdirTemp("", "htlcdash-publish-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(mediaDir)
	os.Exit(code)
}

var (
	made   = map[string]func() (string, error){}
	madeMu sync.Mutex
)

// media makes a file with ffmpeg, once for all tests.
func media(t testing.TB, name string, args ...string) string {
	t.Helper()
	madeMu.Lock()
	if made[name] == nil {
		made[name] = sync.OnceValues(func() (string, error) {
			file := filepath.Join(mediaDir, name)
			out, err := exec.Command("ffmpeg", append(append([]string{"-v", "error", "-nostdin"}, args...), file)...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return file, err
		})
	}
	make := made[name]
	madeMu.Unlock()
	file, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// film is 6 s of moving test picture with a tone.
func film(t testing.TB) string {
	t.Helper()
	return media(t, "film.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=6", "-f", "lavfi", "-i", "sine=f=440:d=6",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart")
}

func key(t testing.TB) htlcdash.PublisherKey {
	t.Helper()
	k, err := htlcdash.NewPublisherKey([32]byte{31: 1})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// options publish source in 2 s segments to a place of the test.
func options(t testing.TB, source string) publish.Options {
	t.Helper()
	return publish.Options{
		Source:         source,
		Out:            filepath.Join(t.TempDir(), "title"),
		Key:            key(t),
		Price:          publish.Policy{PerMB: 1000, Floor: 100},
		SegmentSeconds: 2,
		Providers:      []string{"https://provider.example"},
	}
}

func run(t testing.TB, o publish.Options) (*publish.Result, *title.Title) {
	t.Helper()
	res, err := publish.Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := title.OpenDir(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	return res, opened
}

// open returns the segments of a Representation as a viewer who has paid gets
// them.
func open(t testing.TB, o publish.Options, opened *title.Title, rep string) (plain [][]byte) {
	t.Helper()
	keys, err := title.LoadKeys(publish.KeysFile(o.Out))
	if err != nil {
		t.Fatal(err)
	}
	segs, err := opened.Segments(t.Context(), rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, seg := range segs {
		sealed, err := os.ReadFile(filepath.Join(o.Out, filepath.FromSlash(htlcdash.SealedPath(seg.Sealed))))
		if err != nil {
			t.Fatal(err)
		}
		if !seg.SealedBlob().Is(sealed) {
			t.Fatalf("%s/%d: sealed bytes are not their root", rep, seg.Index)
		}
		k, err := keys.Key(t.Context(), seg)
		if err != nil {
			t.Fatal(err)
		}
		b, err := seg.Open(k, sealed)
		if err != nil {
			t.Fatal(err)
		}
		plain = append(plain, b)
	}
	return plain
}

// frames decodes an init segment with media segments and counts the frames.
func frames(t testing.TB, init []byte, segments ...[]byte) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.mp4")
	if err := os.WriteFile(file, slices.Concat(append([][]byte{init}, segments...)...), 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("%s", out)
	}
	return n
}

func TestPublishMedia(t *testing.T) {
	source := media(t, "hd.mp4", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=24:d=5", "-f", "lavfi", "-i", "sine=f=440:d=5.3",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-metadata:s:a:0", "language=eng")
	o := options(t, source)
	var texts []string
	last := publish.Progress{}
	res, err := publish.Run(t.Context(), o, func(p publish.Progress) {
		if p.Fraction < last.Fraction || p.Fraction > 1 {
			t.Errorf("progress goes from %v to %v", last, p)
		}
		last = p
		if !slices.Contains(texts, p.Text) {
			texts = append(texts, p.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"looking at the media", "encoding 240p, 360p, audio-64k, audio-128k", "measuring quality", "sealing segments", "published"}
	if !slices.Equal(texts, want) || last.Fraction != 1 {
		t.Errorf("progress says %q and ends at %v", texts, last)
	}
	opened, err := title.OpenDir(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if res.ID != opened.ID || res.Publisher != o.Key.ID() || res.Unchanged {
		t.Errorf("%+v", res)
	}
	if got := opened.Manifest.Providers(); !slices.Equal(got, o.Providers) {
		t.Errorf("providers %q", got)
	}
	var ids []string
	for _, rep := range opened.Manifest.Representations() {
		ids = append(ids, rep.ID)
		segs, err := opened.Segments(t.Context(), rep.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(segs) != 3 {
			t.Errorf("%s has %d segments", rep.ID, len(segs))
		}
		for _, seg := range segs {
			if seg.Price < 100 || (rep.ContentType == "video") != (seg.Quality > 0) {
				t.Errorf("%s/%d: price %d, quality %d", rep.ID, seg.Index, seg.Price, seg.Quality)
			}
		}
		if rep.ContentType == "audio" && rep.Lang != "eng" {
			t.Errorf("%s: language %q", rep.ID, rep.Lang)
		}
	}
	if !slices.Equal(ids, []string{"240p", "360p", "audio-64k", "audio-128k"}) {
		t.Errorf("rungs %q", ids)
	}
	low, high := res.Representations[0], res.Representations[1]
	if low.Quality >= high.Quality || low.Bytes >= high.Bytes {
		t.Errorf("the ladder does not rise: %+v, %+v", low, high)
	}
	wantNothingLeft(t, o.Out, "title", "title.keys")
}

// Each segment of each usual frame rate is one closed GOP that decodes alone.
func TestSegmentsDecodeAlone(t *testing.T) {
	for _, tt := range []struct {
		rate string
		gop  int
	}{{"24000/1001", 48}, {"25", 50}, {"30000/1001", 60}, {"50", 100}, {"60000/1001", 120}} {
		t.Run(tt.rate, func(t *testing.T) {
			t.Parallel()
			source := media(t, strings.ReplaceAll(tt.rate, "/", "_")+".mkv", "-f", "lavfi", "-i", "testsrc2=s=160x90:r="+tt.rate+":d=5",
				"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
			o := options(t, source)
			o.SkipQuality = true
			_, opened := run(t, o)
			init, err := opened.Init(t.Context(), "90p")
			if err != nil {
				t.Fatal(err)
			}
			segs := open(t, o, opened, "90p")
			if len(segs) != 3 {
				t.Fatalf("%d segments", len(segs))
			}
			for i, seg := range segs[:2] {
				if n := frames(t, init, seg); n != tt.gop {
					t.Errorf("segment %d has %d frames, want %d", i, n, tt.gop)
				}
			}
		})
	}
}

// A film whose frames come unevenly, whose audio begins late and ends early,
// with pixels that are not square.
func TestUnevenFilm(t *testing.T) {
	source := media(t, "uneven.mkv", "-f", "lavfi", "-i", "testsrc2=s=170x96:r=30:d=5", "-itsoffset", "0.7", "-f", "lavfi", "-i", "sine=d=2",
		"-vf", "select='not(eq(mod(n,7),3))',setsar=4/3", "-fps_mode", "vfr", "-c:v", "ffv1", "-pix_fmt", "yuv420p", "-c:a", "flac")
	o := options(t, source)
	_, opened := run(t, o)
	for _, rep := range opened.Manifest.Representations() {
		if len(rep.Segments) != 3 {
			t.Errorf("%s has %d segments", rep.ID, len(rep.Segments))
		}
		init, err := opened.Init(t.Context(), rep.ID)
		if err != nil {
			t.Fatal(err)
		}
		n := frames(t, init, open(t, o, opened, rep.ID)...)
		if rep.ContentType == "video" && (n != 150 || rep.Width != 226 || rep.Height != 96) {
			t.Errorf("%s: %d frames of %dx%d", rep.ID, n, rep.Width, rep.Height)
		}
	}
}

func TestPublishAudio(t *testing.T) {
	for name, args := range map[string][]string{
		"podcast.flac": {"-f", "lavfi", "-i", "sine=d=5.5:r=16000"},
		"cover.mp3": {
			"-f", "lavfi", "-i", "sine=d=5.5", "-f", "lavfi", "-i", "testsrc2=s=100x100:d=1:r=1", "-map", "0", "-map", "1", "-frames:v", "1",
			"-c:v", "mjpeg", "-disposition:v", "attached_pic", "-id3v2_version", "3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, media(t, name, args...))
			res, opened := run(t, o)
			if len(res.Representations) != 2 || res.Representations[0].Segments != 3 {
				t.Errorf("%+v", res.Representations)
			}
			init, err := opened.Init(t.Context(), "audio-128k")
			if err != nil {
				t.Fatal(err)
			}
			if n := frames(t, init, open(t, o, opened, "audio-128k")...); n < 255 || n > 265 { // 5.5 s of 1024 samples
				t.Errorf("%d frames", n)
			}
		})
	}
}

// tree is the content of a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameTree(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, content := range a {
		if b[name] != content {
			return false
		}
	}
	return true
}

func TestPublishingTwiceGivesTheSameBytes(t *testing.T) {
	a, b := options(t, film(t)), options(t, film(t))
	run(t, a)
	run(t, b)
	if !sameTree(tree(t, filepath.Dir(a.Out)), tree(t, filepath.Dir(b.Out))) {
		t.Error("two runs over one film differ")
	}
}

// wantNothingLeft checks that the folder of out holds these names and no other.
func wantNothingLeft(t testing.TB, out string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("beside the title: %q, want %q", got, want)
	}
}

func TestPublishOverATitle(t *testing.T) {
	ctx := t.Context()
	o := options(t, dashFolder(t))
	first, _ := run(t, o)
	before := tree(t, o.Out)

	again, err := publish.Run(ctx, o, nil)
	if err != nil || !again.Unchanged || again.ID != first.ID {
		t.Errorf("the same title: %+v, %v", again, err)
	}

	dearer := o
	dearer.Price.Floor = 5000
	if _, err := publish.Run(ctx, dearer, nil); !errors.Is(err, publish.ErrExists) {
		t.Errorf("another title: %v, want ErrExists", err)
	}
	if !sameTree(before, tree(t, o.Out)) {
		t.Error("a title was touched that should not be")
	}

	dearer.Force = true
	forced, err := publish.Run(ctx, dearer, nil)
	if err != nil || forced.Unchanged || forced.ID == first.ID {
		t.Errorf("by force: %+v, %v", forced, err)
	}
	opened, err := title.OpenDir(o.Out)
	if err != nil || opened.ID != forced.ID {
		t.Errorf("by force: %v", err)
	}
	wantNothingLeft(t, o.Out, "title", "title.keys")
}

// What was lost or damaged of a title comes back by publishing it again.
func TestPublishMendsATitle(t *testing.T) {
	o := options(t, dashFolder(t))
	run(t, o)
	whole := tree(t, filepath.Dir(o.Out))
	for name, damage := range map[string]func() error{
		"a list cut off": func() error { return os.Truncate(filepath.Join(o.Out, "seals", "v.seals"), 10) },
		"no sealed":      func() error { return os.RemoveAll(filepath.Join(o.Out, "sealed")) },
		"no keys":        func() error { return os.Remove(publish.KeysFile(o.Out)) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if _, err := publish.Run(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
			if !sameTree(whole, tree(t, filepath.Dir(o.Out))) {
				t.Error("it is not whole again")
			}
		})
	}
}

// A folder with something else in it is never replaced, even by force.
func TestNeverReplacesWhatIsNoTitle(t *testing.T) {
	o := options(t, dashFolder(t))
	o.Force = true
	if err := os.Mkdir(o.Out, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Out, "thesis.tex"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := publish.Run(t.Context(), o, nil); !errors.Is(err, publish.ErrExists) {
		t.Errorf("%v, want ErrExists", err)
	}
	if _, err := os.Stat(filepath.Join(o.Out, "thesis.tex")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(o.Out, "thesis.tex")); err != nil {
		t.Fatal(err)
	}
	if _, err := publish.Run(t.Context(), o, nil); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestSourcesThatCannotBePublished(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return file
	}
	whole, err := os.ReadFile(film(t))
	if err != nil {
		t.Fatal(err)
	}
	late, err := os.ReadFile(media(t, "late.mp4", "-i", film(t), "-c", "copy"))
	if err != nil {
		t.Fatal(err)
	}
	mkv, err := os.ReadFile(media(t, "film.mkv", "-i", film(t), "-c", "copy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, source, hint string }{
		{"mp4 cut off, index in front", write("front.mp4", whole[:len(whole)*2/3]), "cut off"},
		{"mp4 cut off, index behind", write("behind.mp4", late[:len(late)*2/3]), "whole?"},
		{"mkv cut off", write("cut.mkv", mkv[:len(mkv)/2]), "cut off"},
		{"text", write("notes.txt", []byte("It was a dark and stormy night.\n")), "cannot read"},
		{"text that says it is a film", write("notes.mp4", bytes.Repeat([]byte("All work and no play.\n"), 5000)), "cannot read"},
		{"a playlist that points elsewhere", write("list.m3u8", []byte("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n")), "cannot read"},
		{"a picture", media(t, "still.png", "-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1"), "cannot read"},
		{"noise", write("noise.mp4", noise(30_000)), "cannot read"},
		{"empty file", write("empty.mp4", nil), "empty"},
		{"no file", filepath.Join(dir, "nowhere.mp4"), "no such file"},
		{"folder without MPD", filepath.Join(dir, "empty"), "no MPD"},
		{"device", os.DevNull, "no file"},
		{"bad MPD", write("bad.mpd", []byte("<MPD")), "bad.mpd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.source)
			_, err := publish.Run(t.Context(), o, nil)
			if !errors.Is(err, publish.ErrSource) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("%v, want ErrSource with %q", err, tt.hint)
			}
			wantNothingLeft(t, o.Out)
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

func TestMissingFFmpegNamesTheRemedy(t *testing.T) {
	for name, spoil := range map[string]func(*publish.Options){
		"ffprobe": func(o *publish.Options) { o.FFprobe = "/nowhere/ffprobe" },
		"ffmpeg":  func(o *publish.Options) { o.FFmpeg = "ffmpeg-that-is-not-there" },
		"ffmpeg to measure with": func(o *publish.Options) {
			o.Source, o.Reference, o.FFmpeg = dashFolder(t), film(t), "ffmpeg-that-is-not-there"
		},
	} {
		o := options(t, film(t))
		spoil(&o)
		_, err := publish.Run(t.Context(), o, nil)
		if !errors.Is(err, publish.ErrProgram) || !strings.Contains(err.Error(), "apt-get install ffmpeg") {
			t.Errorf("%s: %v", name, err)
		}
		wantNothingLeft(t, o.Out)
	}
}

// Whenever it is stopped, nothing is left, neither title nor keys.
func TestStoppedHalfWay(t *testing.T) {
	for _, at := range []string{"looking", "encoding", "measuring", "sealing"} {
		t.Run(at, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			o := options(t, film(t))
			_, err := publish.Run(ctx, o, func(p publish.Progress) {
				if strings.HasPrefix(p.Text, at) {
					stop()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
			wantNothingLeft(t, o.Out)
		})
	}
}

// A run that was killed has left its folder: the next one throws it away.
func TestAfterAKilledRun(t *testing.T) {
	o := options(t, dashFolder(t))
	left := filepath.Join(filepath.Dir(o.Out), ".title.publishing", "title", "sealed")
	if err := os.MkdirAll(left, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "half"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	run(t, o)
	if _, ok := tree(t, o.Out)["sealed/half"]; ok {
		t.Error("the remains of another run are in the title")
	}
	wantNothingLeft(t, o.Out, "title", "title.keys")
}

func TestTwoAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the lock is for Linux")
	}
	o := options(t, dashFolder(t))
	var second error
	var once sync.Once
	if _, err := publish.Run(t.Context(), o, func(publish.Progress) {
		once.Do(func() { _, second = publish.Run(t.Context(), o, nil) })
	}); err != nil {
		t.Errorf("the first: %v", err)
	}
	if !errors.Is(second, publish.ErrBusy) {
		t.Errorf("the second: %v, want ErrBusy", second)
	}
	wantNothingLeft(t, o.Out, "title", "title.keys")
}

func TestOptionsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*publish.Options){
		"no key":               func(o *publish.Options) { o.Key = htlcdash.PublisherKey{} },
		"no place":             func(o *publish.Options) { o.Out = "" },
		"giant segments":       func(o *publish.Options) { o.SegmentSeconds = 11 },
		"bad price":            func(o *publish.Options) { o.Price.PerMB = -1 },
		"a rung that is not":   func(o *publish.Options) { o.Price.Rungs = map[string]publish.Rung{"721p": {Factor: 2}} },
		"a price of all money": func(o *publish.Options) { o.Price.PerMB = 1 << 62 },
		"a file in the way":    func(o *publish.Options) { o.Out = film(t) },
	} {
		o := options(t, dashFolder(t))
		spoil(&o)
		if _, err := publish.Run(t.Context(), o, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A rung that the film has not is found before the film is encoded.
func TestUnknownRungIsFoundEarly(t *testing.T) {
	o := options(t, film(t))
	o.Price.Rungs = map[string]publish.Rung{"720p": {Factor: 2}}
	_, err := publish.Run(t.Context(), o, func(p publish.Progress) {
		if strings.HasPrefix(p.Text, "encoding") {
			t.Error("it encodes first")
		}
	})
	if !errors.Is(err, publish.ErrPolicy) || !strings.Contains(err.Error(), "180p") {
		t.Errorf("%v, want ErrPolicy that names the rungs", err)
	}
}

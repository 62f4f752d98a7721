package publish_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"htlcdash/internal/publish"
)

// dashFolder is a small DASH folder without media in it: "v" has 5 segments.
func dashFolder(t testing.TB) string {
	t.Helper()
	return noiseFolder(t, 5, 20_000)
}

// noiseFolder is one Representation of n segments of size bytes, all different.
func noiseFolder(t testing.TB, n, size int) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "manifest.mpd", fmt.Appendf(nil, `<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT%dS" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011">
<Period><AdaptationSet contentType="video" mimeType="video/mp4">
<SegmentTemplate duration="1" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s"/>
<Representation id="v" bandwidth="160000" width="426" height="240" codecs="avc1.640015"/>
</AdaptationSet></Period></MPD>
`, n))
	put(t, dir, "v/init.mp4", []byte("init"))
	b := make([]byte, size)
	for i := range n {
		copy(b, fmt.Sprintf("segment %d", i))
		put(t, dir, fmt.Sprintf("v/%d.m4s", i+1), b)
	}
	return dir
}

func put(t testing.TB, dir, path string, b []byte) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// ready makes a DASH folder with ffmpeg, as others would.
func ready(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("ffmpeg", slices.Concat([]string{"-v", "error", "-nostdin", "-i", film(t)}, args)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

var h264 = []string{
	"-map", "0:v", "-map", "0:v", "-map", "0:a", "-c:v", "libx264", "-preset", "ultrafast", "-g", "48", "-keyint_min", "48", "-sc_threshold", "0",
	"-b:v:0", "100k", "-b:v:1", "300k", "-c:a", "aac", "-f", "dash", "-seg_duration", "2", "-adaptation_sets", "id=0,streams=v id=1,streams=a",
}

// The four ways in which an MPD says where its segments are, each made by
// ffmpeg; and the bytes that a viewer gets are those of the source folder.
func TestReadyFolders(t *testing.T) {
	template := func(extra ...string) string {
		return ready(t, slices.Concat(h264, []string{"-init_seg_name", "init-$RepresentationID$.mp4"}, extra, []string{"x.mpd"})...)
	}
	tests := []struct {
		name, dir string
		frames    int
	}{
		{"SegmentTemplate by number", template("-use_template", "1", "-use_timeline", "0", "-media_seg_name", "$RepresentationID$-$Number$.m4s"), 144},
		{"SegmentTimeline by number", template("-use_template", "1", "-use_timeline", "1", "-media_seg_name", "$RepresentationID$-$Number$.m4s"), 144},
		// Without audio: ffmpeg's names of AAC segments by time are not those in its MPD.
		{"SegmentTimeline by time", ready(t, "-map", "0:v", "-c", "copy", "-f", "dash", "-seg_duration", "2", "-use_template", "1", "-use_timeline", "1",
			"-media_seg_name", "$RepresentationID$-$Time$.m4s", "x.mpd"), 144},
		{"SegmentList of files", template("-use_template", "0", "-use_timeline", "0"), 144},
		{"SegmentList of byte ranges", ready(t, slices.Concat(h264, []string{"-single_file", "1", "x.mpd"})...), 144},
		{"on demand, sidx", onDemand(t), 144},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			put(t, tt.dir, "foreign.txt", []byte("not ours"))
			o := options(t, tt.dir)
			_, opened := run(t, o)
			for _, rep := range opened.Manifest.Representations() {
				if len(rep.Segments) < 1 {
					t.Fatalf("%s has %d segments", rep.ID, len(rep.Segments))
				}
				plain := open(t, o, opened, rep.ID)
				for i, seg := range rep.Segments {
					b, err := os.ReadFile(filepath.Join(tt.dir, filepath.FromSlash(seg.Path)))
					if err != nil {
						t.Fatal(err)
					}
					if seg.Length > 0 {
						b = b[seg.Offset:][:seg.Length]
					}
					if string(plain[i]) != string(b) {
						t.Errorf("%s/%d is not what was in the folder", rep.ID, i)
					}
				}
				if rep.ContentType != "video" {
					continue
				}
				init, err := opened.Init(t.Context(), rep.ID)
				if err != nil {
					t.Fatal(err)
				}
				if n := frames(t, init, plain...); n != tt.frames {
					t.Errorf("%s: %d frames", rep.ID, n)
				}
			}
			files := tree(t, o.Out)
			if _, ok := files["foreign.txt"]; ok {
				t.Error("a foreign file was published")
			}
			for name, content := range files {
				if len(content) > 10_000 && !strings.HasPrefix(name, "sealed/") {
					t.Errorf("%s lies open, %d bytes", name, len(content))
				}
			}
		})
	}
}

// onDemand is the on-demand profile: one file with a sidx.
func onDemand(t testing.TB) string {
	t.Helper()
	dir := ready(t, "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-g", "48", "-keyint_min", "48", "-sc_threshold", "0",
		"-movflags", "+dash+global_sidx", "-f", "mp4", "v.mp4")
	b, err := os.ReadFile(filepath.Join(dir, "v.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "sidx") - 4
	size := int(b[at])<<24 | int(b[at+1])<<16 | int(b[at+2])<<8 | int(b[at+3])
	put(t, dir, "x.mpd", fmt.Appendf(nil, `<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="300000" width="320" height="180" codecs="avc1.640015">
<BaseURL>v.mp4</BaseURL><SegmentBase indexRange="%d-%d"><Initialization range="0-%d"/></SegmentBase>
</Representation></AdaptationSet></Period></MPD>
`, at, at+size-1, at-1))
	return dir
}

// What people call a title: what the publisher says, else what the MPD says,
// else what the source is called.
func TestTitle(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "big-buck_bunny (2008)")
	if err := os.Rename(noiseFolder(t, 2, 100), folder); err != nil {
		t.Fatal(err)
	}
	mpd := filepath.Join(folder, "manifest.mpd")
	check := func(source, option, want string) {
		t.Helper()
		o := options(t, source)
		o.Title = option
		if _, opened := run(t, o); opened.Manifest.Title() != want {
			t.Errorf("%s, title %q: got %q, want %q", filepath.Base(source), option, opened.Manifest.Title(), want)
		}
	}
	check(folder, "", "Big buck bunny 2008")
	check(mpd, "", "Big buck bunny 2008")
	check(folder, "Big Buck Bunny", "Big Buck Bunny")
	b, err := os.ReadFile(mpd)
	if err != nil {
		t.Fatal(err)
	}
	named := strings.Replace(string(b), "<Period", "<ProgramInformation><Title>Bunny</Title></ProgramInformation><Period", 1)
	put(t, folder, "manifest.mpd", []byte(named))
	check(folder, "", "Bunny")
	check(folder, "Big Buck Bunny", "Big Buck Bunny")
}

func TestReadyFolderByReference(t *testing.T) {
	dir := ready(t, slices.Concat(h264, []string{"-use_template", "1", "-use_timeline", "1", "x.mpd"})...)
	o := options(t, filepath.Join(dir, "x.mpd"))
	res, _ := run(t, o)
	for _, s := range res.Representations {
		if s.Quality != 0 {
			t.Errorf("%s: quality %d without a reference", s.ID, s.Quality)
		}
	}
	o.Reference, o.Force = film(t), true
	res, opened := run(t, o)
	low, high, audio := res.Representations[0], res.Representations[1], res.Representations[2]
	if low.Quality < 100 || low.Quality >= high.Quality || audio.Quality != 0 {
		t.Errorf("quality %d, %d; audio %d", low.Quality, high.Quality, audio.Quality)
	}
	segs, err := opened.Segments(t.Context(), low.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, seg := range segs {
		if seg.Quality == 0 {
			t.Errorf("segment %d was not measured", seg.Index)
		}
	}
	o.Reference = media(t, "podcast2.flac", "-f", "lavfi", "-i", "sine=d=2")
	if _, err := publish.Run(t.Context(), o, nil); !errors.Is(err, publish.ErrSource) {
		t.Errorf("audio as a reference: %v", err)
	}
}

func TestFoldersThatAreNotWhole(t *testing.T) {
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	for _, tt := range []struct {
		name  string
		spoil func(dir string) error
		hint  string
	}{
		{"no last segment", remove("v/5.m4s"), "segment 5 of 5: v/5.m4s is missing"},
		{"no init", remove("v/init.mp4"), "init segment: v/init.mp4 is missing"},
		{"an empty segment", func(dir string) error { return os.Truncate(filepath.Join(dir, "v/3.m4s"), 0) }, "v/3.m4s is empty"},
		{"a giant segment", func(dir string) error { return os.Truncate(filepath.Join(dir, "v/3.m4s"), 65<<20) }, "make shorter segments"},
		{"a segment that is a link out", func(dir string) error {
			os.Remove(filepath.Join(dir, "v/3.m4s"))
			return os.Symlink("/etc/hostname", filepath.Join(dir, "v/3.m4s"))
		}, "v/3.m4s"},
		{"two MPDs", func(dir string) error { return os.WriteFile(filepath.Join(dir, "b.mpd"), nil, 0o666) }, "2 MPDs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := dashFolder(t)
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			o := options(t, dir)
			if _, err := publish.Run(t.Context(), o, nil); !errors.Is(err, publish.ErrSource) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("%v, want ErrSource with %q", err, tt.hint)
			}
			wantNothingLeft(t, o.Out)
		})
	}
	t.Run("byte ranges past the end", func(t *testing.T) {
		dir := onDemand(t)
		info, err := os.Stat(filepath.Join(dir, "v.mp4"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "v.mp4"), info.Size()/2); err != nil {
			t.Fatal(err)
		}
		o := options(t, dir)
		if _, err := publish.Run(t.Context(), o, nil); !errors.Is(err, publish.ErrSource) || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%v", err)
		}
	})
}

// Two equal segments, such as silence, are one sealed file with one key.
func TestEqualSegmentsAreOneFile(t *testing.T) {
	dir := dashFolder(t)
	put(t, dir, "v/4.m4s", make([]byte, 5000))
	put(t, dir, "v/5.m4s", make([]byte, 5000))
	o := options(t, dir)
	_, opened := run(t, o)
	if plain := open(t, o, opened, "v"); len(plain) != 5 {
		t.Errorf("%d segments", len(plain))
	}
	sealed := 0
	for name := range tree(t, o.Out) {
		if strings.HasPrefix(name, "sealed/") {
			sealed++
		}
	}
	if sealed != 4 {
		t.Errorf("%d sealed files of 4 different segments", sealed)
	}
}

// mount gives the test a file system of its own. It needs root on Linux.
func mount(t testing.TB, options string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "none", dir).CombinedOutput(); err != nil {
		t.Skipf("needs root to mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	return dir
}

func TestFullDisk(t *testing.T) {
	for _, tt := range []struct {
		name, source, size string
	}{
		{"while it encodes", film(t), "100k"},
		{"while it seals", noiseFolder(t, 50, 50_000), "1m"},
		{"at the first byte", dashFolder(t), "4k"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.source)
			o.Out = filepath.Join(mount(t, "size="+tt.size), "title")
			_, err := publish.Run(t.Context(), o, nil)
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
				t.Errorf("%v, want ENOSPC and a next step", err)
			}
			wantNothingLeft(t, o.Out)
		})
	}
}

func TestUnwritableFolder(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 { // nothing is forbidden to root
		dir = mount(t, "ro")
	} else if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	o := options(t, dashFolder(t))
	o.Out = filepath.Join(dir, "title")
	if _, err := publish.Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "choose a folder that you may write to") {
		t.Errorf("%v", err)
	}
	wantNothingLeft(t, o.Out)

	o.Out = filepath.Join(t.TempDir(), "no", "such", "title")
	if _, err := publish.Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "make that folder first") {
		t.Errorf("%v", err)
	}
}

// A title of two hours takes no more memory than one of two minutes.
func TestMemoryIsFlat(t *testing.T) {
	peak := func(segments int) (most uint64) {
		o := options(t, noiseFolder(t, segments, 16<<10))
		next := 0.0
		_, err := publish.Run(t.Context(), o, func(p publish.Progress) {
			if p.Fraction < next {
				return
			}
			next += 0.1
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		})
		if err != nil {
			t.Fatal(err)
		}
		return most
	}
	short, long := peak(60), peak(3600)
	// A seal and its place in the manifest stay: some hundred bytes each.
	if grown := int64(long) - int64(short); grown > 3600*1024 {
		t.Errorf("%d bytes at 60 segments, %d at 3600", short, long)
	}
}

// BenchmarkSeal is all that publishing does besides the encoder: read, hash,
// seal, hash, write, on all cores. Set it beside "openssl speed -evp sha256"
// (two passes) and "-evp aes-256-ctr".
func BenchmarkSeal(b *testing.B) {
	const segments, size = 200, 1 << 20
	source := noiseFolder(b, segments, size)
	b.SetBytes(segments * size)
	for b.Loop() {
		if _, err := publish.Run(b.Context(), options(b, source), nil); err != nil {
			b.Fatal(err)
		}
	}
}

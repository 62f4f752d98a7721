package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// everyFrame is which frames are measured: each third. It shares no factor with
// the usual patterns of B frames, so no kind of frame is preferred.
const everyFrame = 3

// A yardstick is what the rungs of a title are held against.
type yardstick struct {
	file   string
	filter string // from the file to frames in step with those of the rungs
	rung   string // from a rung's segments to frames in step with the file's
	rate   rate
	length float64 // seconds
}

// measure returns the quality of each segment of each video rung, as SSIM
// against the source, at the size of the largest rung. What is not measured is
// not in the map.
func (w *work) measure(ctx context.Context, b *book, l *ladder) (map[string][]htlcdash.Decibel, error) {
	var y yardstick
	switch {
	case w.Quality != nil:
		return w.Quality, nil
	case l != nil && (w.SkipQuality || l.clip.video == nil):
		return nil, nil
	case l != nil:
		r := l.clip.video.rate
		y = yardstick{l.clip.file, l.source(0), fmt.Sprintf("setpts=N/(%s)/TB", r), r, l.length}
	case w.Reference != "":
		c, err := w.probe(ctx, w.Reference, func(float64) {})
		if err != nil {
			return nil, err
		}
		if c.video == nil {
			return nil, fmt.Errorf("%w: the reference %s has no video", ErrSource, w.Reference)
		}
		// The rungs may have another rate, and begin elsewhere on the clock.
		own := fmt.Sprintf("setpts=PTS-STARTPTS,fps=%s:start_time=0,setpts=N/(%[1]s)/TB", c.video.rate)
		y = yardstick{c.file, fmt.Sprintf("[0:%d]%s", c.video.index, own), own, c.video.rate, c.end}
	default:
		return nil, nil
	}
	reps := videos(b.manifest)
	if len(reps) == 0 {
		return nil, nil
	}
	if slices.ContainsFunc(reps, func(r *dash.Representation) bool { return r.Period > 0 }) {
		return nil, fmt.Errorf("%w: quality can be measured for one Period only: leave the reference out", ErrSource)
	}
	return w.ssim(ctx, b, reps, y)
}

func videos(m *dash.Manifest) (reps []*dash.Representation) {
	for _, r := range m.Representations() {
		if r.ContentType == "video" && r.Width > 0 && r.Height > 0 && r.Init.Path != "" {
			reps = append(reps, r)
		}
	}
	return reps
}

// ssim measures all rungs in one pass, so that the source is decoded once. The
// segments of each rung flow through a pipe.
func (w *work) ssim(ctx context.Context, b *book, reps []*dash.Representation, y yardstick) (map[string][]htlcdash.Decibel, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := []string{"-nostdin", "-y", "-progress", "pipe:1", "-nostats", "-i", inputArg(y.file)}
	var pipes []*os.File
	fed := make(chan error, len(reps))
	for i, rep := range reps {
		r, p, err := os.Pipe()
		if err != nil {
			cancel()
			return nil, err
		}
		pipes = append(pipes, r)
		args = append(args, "-f", demuxer(rep), "-i", "pipe:"+strconv.Itoa(3+i))
		go func() { fed <- b.feed(ctx, p, rep) }()
	}
	args = append(args, "-filter_complex", ssimFilters(reps, y))
	for i := range reps {
		args = append(args, "-map", fmt.Sprintf("[o%d]", i))
	}
	err := w.program(ctx, w.FFmpeg, "ffmpeg", func(out io.Reader) {
		progressLines(out, func(at float64) {
			w.report(encodedAt+(measuredAt-encodedAt)*at/y.length, "measuring quality")
		})
	}, pipes, append(args, "-f", "null", "-")...)
	for range reps {
		if e := <-fed; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return nil, fmt.Errorf("measure quality against %s: %w", y.file, err)
	}
	return w.decibels(reps, y.rate)
}

func demuxer(rep *dash.Representation) string {
	if strings.HasSuffix(rep.MimeType, "webm") {
		return "matroska"
	}
	return "mp4"
}

// feed writes the init segment and all segments of rep, and closes p.
func (b *book) feed(ctx context.Context, p *os.File, rep *dash.Representation) error {
	defer p.Close()
	stop := context.AfterFunc(ctx, func() { p.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf, err := b.read(rep.Init, title.MaxInit, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	for i := 0; ; i++ {
		if _, err := p.Write(buf); err != nil {
			return nil // ffmpeg has gone, and says itself why
		}
		if i == len(rep.Segments) {
			return nil
		}
		if buf, err = b.read(rep.Segments[i].Resource, htlcdash.MaxSegmentLength, buf); err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
	}
}

func ssimFilters(reps []*dash.Representation, y yardstick) string {
	top := slices.MaxFunc(reps, func(a, b *dash.Representation) int { return a.Width*a.Height - b.Width*b.Height })
	scale := fmt.Sprintf("select='not(mod(n,%d))',scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p", everyFrame, top.Width, top.Height)
	var in, f strings.Builder
	for i := range reps {
		fmt.Fprintf(&in, "[r%d]", i)
		fmt.Fprintf(&f, ";[%d:v:0]%s,%s[d%[4]d];[d%[4]d][r%[4]d]ssim=stats_file=%[5]s[o%[4]d]", 1+i, y.rung, scale, i, statsFile(i))
	}
	return fmt.Sprintf("%s,%s,split=%d%s%s", y.filter, scale, len(reps), &in, &f)
}

// statsFile is relative to the stage's media folder, where ffmpeg runs.
func statsFile(i int) string { return fmt.Sprintf("ssim-%d.txt", i) }

// decibels reads what ffmpeg wrote.
func (w *work) decibels(reps []*dash.Representation, r rate) (map[string][]htlcdash.Decibel, error) {
	quality := map[string][]htlcdash.Decibel{}
	for i, rep := range reps {
		f, err := os.Open(filepath.Join(w.stage.media(), statsFile(i)))
		if err != nil {
			return nil, err
		}
		quality[rep.ID], err = perSegment(f, rep.Segments, everyFrame/r.float())
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return quality, nil
}

// perSegment averages the SSIM of frames, which stand step seconds apart, over
// each segment. A segment without a measured frame stays 0.
func perSegment(stats io.Reader, segs []dash.MediaSegment, step float64) ([]htlcdash.Decibel, error) {
	sums, counts := make([]float64, len(segs)), make([]int, len(segs))
	lines := bufio.NewScanner(stats)
	seg := 0
	for n := 0; lines.Scan(); n++ {
		ssim, err := allPlanes(lines.Text())
		if err != nil {
			return nil, err
		}
		// The middle of the frame's slot, lest a rounded start mislead.
		at := time.Duration((float64(n)*step + step/(2*everyFrame)) * float64(time.Second))
		for seg+1 < len(segs) && at+segs[0].Start >= segs[seg+1].Start {
			seg++
		}
		sums[seg] += ssim
		counts[seg]++
	}
	out := make([]htlcdash.Decibel, len(segs))
	for i, n := range counts {
		if n > 0 {
			out[i] = decibel(sums[i] / float64(n))
		}
	}
	return out, lines.Err()
}

// allPlanes reads "n:1 Y:0.98 U:0.99 V:0.99 All:0.985 (18.2)".
func allPlanes(line string) (float64, error) {
	_, after, ok := strings.Cut(line, "All:")
	number, _, _ := strings.Cut(after, " ")
	x, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || x > 1 {
		return 0, fmt.Errorf("ffmpeg's ssim says %q", line)
	}
	return x, nil
}

// decibel turns an SSIM into hundredths of a dB, between 0.01 and 100 dB: 0
// would mean that nothing was measured.
func decibel(ssim float64) htlcdash.Decibel {
	db := -1000 * math.Log10(1-ssim)
	return htlcdash.Decibel(min(max(math.Round(db), 1), 10_000))
}

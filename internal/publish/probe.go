package publish

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A clip is what we know of a media file.
type clip struct {
	file  string // absolute
	video *videoTrack
	audio *audioTrack
	start float64 // seconds: where the file's clock begins
	end   float64 // seconds from start: the end of its longest track
}

type videoTrack struct {
	index         int
	width, height int // as shown: square pixels, upright
	rate          rate
	interlaced    bool
}

type audioTrack struct {
	index    int
	channels int
	lang     string
}

// probed is ffprobe's answer.
type probed struct {
	Streams []struct {
		Index       int
		CodecType   string `json:"codec_type"`
		CodecName   string `json:"codec_name"`
		Width       int
		Height      int
		Aspect      string `json:"sample_aspect_ratio"`
		Field       string `json:"field_order"`
		Nominal     string `json:"r_frame_rate"`
		Average     string `json:"avg_frame_rate"`
		Channels    int
		Start       string `json:"start_time"`
		Duration    string
		Disposition struct {
			Picture int `json:"attached_pic"`
		}
		Tags     struct{ Language string }
		SideData []struct{ Rotation float64 } `json:"side_data_list"`
	}
	Format struct {
		Name     string `json:"format_name"`
		Start    string `json:"start_time"`
		Duration string
	}
}

// Formats that say how long they are, so that a cut-off file shows.
var exact = []string{"mov", "matroska", "wav", "flac", "avi"}

// Formats that ffmpeg reads but that are no film and no recording: text as a
// terminal shows it, lists of other files, single pictures.
var noMedia = []string{"tty", "hls", "dash", "concat", "image2", "lavfi", "sdp", "rtsp"}

// probe looks at a media file: its tracks by ffprobe's word, its length by
// reading all packets, because headers lie. The error matches [ErrSource] or
// [ErrProgram].
func (w *work) probe(ctx context.Context, file string, progress func(float64)) (*clip, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	out, err := w.ffprobe(ctx, "-show_format", "-show_streams", "-of", "json", inputArg(abs))
	if err != nil {
		return nil, unreadable(file, err)
	}
	var p probed
	if err := json.Unmarshal(out, &p); err != nil {
		return nil, unreadable(file, err)
	}
	if slices.ContainsFunc(noMedia, func(n string) bool { return slices.Contains(strings.Split(p.Format.Name, ","), n) }) || strings.HasSuffix(p.Format.Name, "_pipe") {
		return nil, unreadable(file, fmt.Errorf("it looks like %s, not like a film or a recording", p.Format.Name))
	}
	c := &clip{file: abs, start: seconds(p.Format.Start)}
	if err := c.tracks(p); err != nil {
		return nil, unreadable(file, err)
	}
	ends, err := w.ends(ctx, abs, progress)
	if err != nil {
		return nil, unreadable(file, err)
	}
	return c, c.measure(p, ends)
}

func unreadable(file string, err error) error {
	if errors.Is(err, ErrProgram) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: ffmpeg cannot read %s; is it media, and whole? %w", ErrSource, file, err)
}

// tracks picks the first video that is no cover picture, and the first audio.
func (c *clip) tracks(p probed) error {
	for _, s := range p.Streams {
		switch {
		case s.CodecType == "video" && c.video == nil && s.Disposition.Picture == 0 && s.Width > 0 && s.Height > 0:
			v := &videoTrack{index: s.Index, width: s.Width, height: s.Height}
			if n, d, ok := ratio(s.Aspect, ":"); ok {
				v.width = int(int64(v.width) * n / d)
			}
			for _, side := range s.SideData {
				if r := int(side.Rotation); r%180 != 0 {
					v.width, v.height = v.height, v.width
				}
			}
			v.rate = pickRate(s.Nominal, s.Average)
			v.interlaced = slices.Contains([]string{"tt", "bb", "tb", "bt"}, s.Field)
			c.video = v
		case s.CodecType == "audio" && c.audio == nil && s.CodecName != "" && s.Channels > 0:
			c.audio = &audioTrack{s.Index, s.Channels, s.Tags.Language}
		}
	}
	if c.video == nil && c.audio == nil {
		return errors.New("it has neither video nor audio")
	}
	return nil
}

// measure sets the length of the clip, and finds out whether the file ends
// before its header says.
func (c *clip) measure(p probed, ends map[int]float64) error {
	for _, s := range p.Streams {
		if !c.uses(s.Index) {
			continue
		}
		end, ok := ends[s.Index]
		if !ok {
			return unreadable(c.file, fmt.Errorf("its %s track is empty", s.CodecType))
		}
		c.end = max(c.end, end-c.start)
		told := seconds(s.Duration)
		if told > 0 && isExact(p) && end-seconds(s.Start) < told-max(0.5, told/200) {
			return cutOff(c.file, end-seconds(s.Start), told)
		}
	}
	if told := seconds(p.Format.Duration); told > 0 && isExact(p) && !c.others(p) && c.end < told-max(0.5, told/200) {
		return cutOff(c.file, c.end, told)
	}
	if c.end <= 0 {
		return unreadable(c.file, errors.New("it has no length"))
	}
	return nil
}

func cutOff(file string, have, told float64) error {
	return fmt.Errorf("%w: %s is cut off: %.1f s of %.1f s are there; get the whole file", ErrSource, file, have, told)
}

func isExact(p probed) bool {
	return slices.ContainsFunc(strings.Split(p.Format.Name, ","), func(n string) bool { return slices.Contains(exact, n) })
}

func (c *clip) uses(index int) bool {
	return c.video != nil && c.video.index == index || c.audio != nil && c.audio.index == index
}

// others reports tracks that we do not use, which may be longer than ours.
func (c *clip) others(p probed) bool {
	for _, s := range p.Streams {
		if !c.uses(s.Index) {
			return true
		}
	}
	return false
}

// ends reads all packets and returns where each track ends, in seconds.
func (w *work) ends(ctx context.Context, file string, progress func(float64)) (map[int]float64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	ends := map[int]float64{}
	return ends, w.program(ctx, w.FFprobe, "ffprobe", func(out io.Reader) {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			index, end, pos, ok := packet(lines.Text())
			if ok {
				ends[index] = max(ends[index], end)
				progress(float64(pos) / float64(info.Size()))
			}
		}
		io.Copy(io.Discard, out)
	}, nil, "-show_entries", "packet=stream_index,pts_time,dts_time,duration_time,pos", "-of", "compact=p=0", inputArg(file))
}

// packet reads "stream_index=0|pts_time=1.5|dts_time=1.4|duration_time=0.04|pos=48".
func packet(line string) (index int, end float64, pos int64, ok bool) {
	at, index := -1.0, -1
	var duration float64
	for f := range strings.SplitSeq(line, "|") {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "stream_index":
			index, _ = strconv.Atoi(value)
		case "pts_time", "dts_time":
			if x, err := strconv.ParseFloat(value, 64); err == nil && at < 0 {
				at = x
			}
		case "duration_time":
			duration = seconds(value)
		case "pos":
			pos, _ = strconv.ParseInt(value, 10, 64)
		}
	}
	return index, at + duration, pos, index >= 0 && at >= 0
}

func seconds(s string) float64 {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0 // "N/A"
	}
	return x
}

// inputArg keeps a path from being taken for an option or a protocol.
func inputArg(abs string) string { return "file:" + abs }

// onlyFiles keeps ffmpeg from following a file that points elsewhere.
var onlyFiles = []string{"-protocol_whitelist", "file,pipe"}

func (w *work) ffprobe(ctx context.Context, args ...string) (out []byte, err error) {
	err = w.program(ctx, w.FFprobe, "ffprobe", func(r io.Reader) { out, _ = io.ReadAll(r) }, nil, args...)
	return out, err
}

// program runs ffmpeg or ffprobe and hands its output to read, which must read
// it all. The extra files are 3, 4, ... in the child. Its last words become the
// error.
func (w *work) program(ctx context.Context, path, name string, read func(io.Reader), extra []*os.File, args ...string) error {
	if path == "" {
		path = name
	}
	cmd := exec.CommandContext(ctx, path, append(append([]string{"-v", "error", "-hide_banner"}, onlyFiles...), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1")
	cmd.Dir = w.stage.media()
	cmd.ExtraFiles = extra
	words := &tail{}
	cmd.Stderr = words
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	err = cmd.Start()
	for _, f := range extra {
		f.Close() // the child has its own, and who writes to a dead one must know
	}
	if err != nil {
		return missing(name, err)
	}
	read(out)
	return words.explain(ctx, cmd.Wait())
}

func missing(name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s: install it, on Debian with \"apt-get install ffmpeg\": %w", ErrProgram, name, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrProgram, name, err)
}

// A tail keeps the last words of a program.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 8<<10 {
		t.b = t.b[len(t.b)-4<<10:]
	}
	return len(p), nil
}

func (t *tail) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if bytes.Contains(t.b, []byte("No space left on device")) {
		return errNoSpace
	}
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return fmt.Errorf("%w: %s", err, lines[len(lines)-1])
}

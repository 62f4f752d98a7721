package publish

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A ladder is the plan for a media file: pure arithmetic, so that the same
// file gives the same segments everywhere.
type ladder struct {
	clip     *clip
	video    []rung // from low to high
	audio    []audioRung
	frames   int     // of video in all; 0 without video
	gop      int     // frames of a segment
	segment  float64 // seconds
	length   float64 // seconds
	segments int
}

// A rung is one quality of video.
type rung struct {
	width, height int
	crf           int
	cap           int // kbit/s: capped CRF
}

type audioRung struct{ kbits int }

// id names the rung as people do: by the shorter side.
func (r rung) id() string      { return strconv.Itoa(min(r.width, r.height)) + "p" }
func (a audioRung) id() string { return "audio-" + strconv.Itoa(a.kbits) + "k" }

// The steps of the ladder: the shorter side, and the most that a scene may take.
// CRF holds the quality, so that a dark or still scene needs few bits and costs
// little; the cap holds the line.
var steps = []struct{ side, crf, cap int }{
	{240, 23, 450},
	{360, 23, 1050},
	{480, 23, 2100},
	{720, 23, 4200},
}

var audioSteps = []int{64, 128} // kbit/s

// shortest is the shortest piece, in seconds, that is worth a segment of its
// own. A shorter rest at the end of a film is left out.
const shortest = 0.25

// plan makes the ladder of a clip: never larger than the source, all rungs cut
// at the same frames.
func plan(c *clip, segmentSeconds int) *ladder {
	l := &ladder{clip: c, segment: float64(segmentSeconds), length: c.end}
	if c.video != nil {
		l.video = videoRungs(c.video.width, c.video.height)
		l.gop = max(1, int(math.Round(l.segment*c.video.rate.float())))
		l.segment = float64(l.gop) / c.video.rate.float()
	}
	if rest := math.Mod(l.length, l.segment); l.length > l.segment && rest < shortest {
		l.length -= rest
	}
	if c.video != nil {
		l.frames = max(1, int(math.Round(l.length*c.video.rate.float())))
		l.length = float64(l.frames) / c.video.rate.float()
		l.segments = (l.frames + l.gop - 1) / l.gop
	} else {
		l.segments = max(1, int(math.Ceil(l.length/l.segment-1e-6)))
	}
	if c.audio != nil {
		for _, k := range audioSteps {
			l.audio = append(l.audio, audioRung{k})
		}
	}
	return l
}

// videoRungs takes the steps that are not above the source. A source below all
// of them is one rung of its own.
func videoRungs(width, height int) (rungs []rung) {
	side := min(width, height)
	for _, s := range steps {
		if s.side <= side {
			rungs = append(rungs, scaled(width, height, s.side, s.crf, s.cap))
		}
	}
	if rungs == nil {
		rungs = []rung{scaled(width, height, side, steps[0].crf, steps[0].cap)}
	}
	return rungs
}

// scaled keeps the shape; H.264 in 4:2:0 wants even sides.
func scaled(width, height, side, crf, cap int) rung {
	f := float64(side) / float64(min(width, height))
	even := func(n int) int { return max(2, min(2*int(math.Round(float64(n)*f/2)), n/2*2)) }
	return rung{even(width), even(height), crf, cap}
}

// A rate is frames per second as a fraction.
type rate struct{ num, den int64 }

func (r rate) float() float64 { return float64(r.num) / float64(r.den) }
func (r rate) String() string { return fmt.Sprintf("%d/%d", r.num, r.den) }

// rates are those that cameras and films have.
var rates = []rate{{24000, 1001}, {24, 1}, {25, 1}, {30000, 1001}, {30, 1}, {48, 1}, {50, 1}, {60000, 1001}, {60, 1}}

// pickRate chooses a constant rate for a source. One whose frames come evenly
// keeps its own, up to 60; for others the next usual rate that loses no frame.
func pickRate(nominal, average string) rate {
	an, ad, ok := ratio(average, "/")
	if !ok {
		if an, ad, ok = ratio(nominal, "/"); !ok {
			return rate{25, 1}
		}
	}
	avg := rate{an, ad}
	for _, r := range rates {
		if math.Abs(r.float()/avg.float()-1) < 0.0004 { // 23.976 and 24 differ by 0.001
			return r
		}
	}
	if nn, nd, ok := ratio(nominal, "/"); ok && nn*ad == an*nd && avg.float() >= 1 && avg.float() <= 60 {
		return avg
	}
	for _, r := range rates[1:] {
		if r.den == 1 && r.float() >= avg.float() {
			return r
		}
	}
	return rate{60, 1}
}

func ratio(s, sep string) (n, d int64, ok bool) {
	a, b, _ := strings.Cut(s, sep)
	n, err1 := strconv.ParseInt(a, 10, 32)
	d, err2 := strconv.ParseInt(b, 10, 32)
	return n, d, err1 == nil && err2 == nil && n > 0 && d > 0
}

// source is the filter chain that makes of the clip's video what is encoded:
// upright, progressive, at a constant rate, exactly l.frames frames. The
// measurement uses the same chain, so that frame n is frame n.
func (l *ladder) source(input int) string {
	v := l.clip.video
	f := fmt.Sprintf("[%d:%d]", input, v.index)
	if v.interlaced {
		f += "yadif,"
	}
	return f + fmt.Sprintf("fps=%s:start_time=0,tpad=stop=-1:stop_mode=clone,trim=end_frame=%d,setpts=N/(%[1]s)/TB", v.rate, l.frames)
}

// arguments are ffmpeg's, for one pass over the source.
func (l *ladder) arguments() []string {
	args := []string{"-nostdin", "-y", "-progress", "pipe:1", "-nostats", "-i", inputArg(l.clip.file), "-filter_complex", l.filters()}
	for i := range l.video {
		args = append(args, "-map", fmt.Sprintf("[v%d]", i))
	}
	for i := range l.audio {
		args = append(args, "-map", fmt.Sprintf("[a%d]", i))
	}
	args = append(args, l.videoArguments()...)
	args = append(args, l.audioArguments()...)
	return append(args, l.muxArguments()...)
}

func (l *ladder) filters() string {
	var f []string
	if n := len(l.video); n > 0 {
		var in, scale strings.Builder
		for i, r := range l.video {
			fmt.Fprintf(&in, "[s%d]", i)
			fmt.Fprintf(&scale, ";[s%d]scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p[v%[1]d]", i, r.width, r.height)
		}
		f = append(f, fmt.Sprintf("%s,split=%d%s%s", l.source(0), n, &in, &scale))
	}
	if n := len(l.audio); n > 0 {
		var out strings.Builder
		for i := range l.audio {
			fmt.Fprintf(&out, "[a%d]", i)
		}
		// Audio that begins late or ends early is filled with silence, so that
		// all rungs have the same number of segments.
		f = append(f, fmt.Sprintf("[0:%d]aresample=48000:async=1:first_pts=0,aformat=channel_layouts=%s,apad,atrim=end=%.6f,asplit=%d%s",
			l.clip.audio.index, l.layout(), l.length, n, &out))
	}
	return strings.Join(f, ";")
}

func (l *ladder) channels() int { return min(2, l.clip.audio.channels) }

func (l *ladder) layout() string {
	if l.channels() == 1 {
		return "mono"
	}
	return "stereo"
}

// videoArguments asks for closed GOPs of one segment each. The number of
// threads is fixed because x264's output depends on it.
func (l *ladder) videoArguments() []string {
	if len(l.video) == 0 {
		return nil
	}
	gop := strconv.Itoa(l.gop)
	args := []string{
		"-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-r:v", l.clip.video.rate.String(),
		"-g:v", gop, "-keyint_min:v", gop, "-sc_threshold:v", "0", "-flags:v", "+cgop+bitexact", "-threads:v", "4",
	}
	for i, r := range l.video {
		args = append(args,
			fmt.Sprintf("-crf:v:%d", i), strconv.Itoa(r.crf),
			fmt.Sprintf("-maxrate:v:%d", i), fmt.Sprintf("%dk", r.cap),
			fmt.Sprintf("-bufsize:v:%d", i), fmt.Sprintf("%dk", r.cap*4/3))
	}
	return args
}

func (l *ladder) audioArguments() []string {
	if len(l.audio) == 0 {
		return nil
	}
	args := []string{"-c:a", "aac", "-ar", "48000", "-flags:a", "+bitexact"}
	for i, a := range l.audio {
		args = append(args, fmt.Sprintf("-b:a:%d", i), fmt.Sprintf("%dk", a.kbits))
	}
	return args
}

// muxArguments gives each stream a set of its own: the muxer refuses rungs in
// one set whose shapes differ by a rounded pixel. The MPD is ours anyway.
func (l *ladder) muxArguments() []string {
	var sets []string
	for i := range len(l.video) + len(l.audio) {
		sets = append(sets, fmt.Sprintf("id=%d,streams=%[1]d", i))
	}
	return []string{
		"-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact",
		"-f", "dash", "-seg_duration", fmt.Sprintf("%.6f", math.Floor(l.segment*1e6)/1e6),
		"-use_template", "1", "-use_timeline", "0", "-adaptation_sets", strings.Join(sets, " "),
		"-init_seg_name", "init-$RepresentationID$.mp4", "-media_seg_name", "seg-$RepresentationID$-$Number%05d$.m4s",
		ffmpegMPD,
	}
}

// bandwidth is Representation@bandwidth as ISO/IEC 23009-1 defines it: who
// waits until minBufferTime is filled at this rate, from any segment on, never
// waits again. It is at least the average, which a short clip would undercut.
// Sizes are in bytes, the others in seconds, the rate in bit/s.
func bandwidth(sizes []int64, segment, minBuffer, length float64) int64 {
	var most, total float64
	for i := range sizes {
		var bits float64
		for j, n := range sizes[i:] {
			bits += float64(8 * n)
			most = max(most, bits/(minBuffer+float64(j)*segment))
		}
		total += float64(8 * sizes[i])
	}
	return int64(math.Ceil(max(most, total/length)))
}

// kinds says what the ladder has, for people.
func (l *ladder) kinds() string {
	var ids []string
	for _, r := range l.video {
		ids = append(ids, r.id())
	}
	for _, a := range l.audio {
		ids = append(ids, a.id())
	}
	return strings.Join(slices.Compact(ids), ", ")
}

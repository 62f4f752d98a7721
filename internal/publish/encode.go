package publish

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// errNoSpace is what ffmpeg says in words.
var errNoSpace = fmt.Errorf("ffmpeg: %w", syscall.ENOSPC)

// ffmpegMPD is the MPD that ffmpeg writes. Only the codec strings in it are
// used: its bandwidth is that of the first segment, and its length is rounded.
const ffmpegMPD = "ffmpeg.mpd"

// encode turns a media file into a DASH folder in the stage.
func (w *work) encode(ctx context.Context, media string) (*ladder, error) {
	w.report(0, "looking at the media")
	c, err := w.probe(ctx, media, func(f float64) { w.report(probedAt*f, "looking at the media") })
	if err != nil {
		return nil, err
	}
	l := plan(c, w.SegmentSeconds)
	if err := w.Price.fits(l.representations()); err != nil {
		return nil, err // before the long work
	}
	err = w.ladder(ctx, l)
	if err == nil {
		err = w.writeMPD(l)
	}
	if full := w.stage.full(); err != nil && full != nil {
		return nil, full
	}
	return l, err
}

// representations are what the MPD will name, as far as prices go.
func (l *ladder) representations() (reps []*dash.Representation) {
	for _, r := range l.video {
		reps = append(reps, &dash.Representation{ID: r.id(), ContentType: "video", Width: r.width, Height: r.height})
	}
	for _, a := range l.audio {
		reps = append(reps, &dash.Representation{ID: a.id(), ContentType: "audio"})
	}
	return reps
}

func (w *work) ladder(ctx context.Context, l *ladder) error {
	text := "encoding " + l.kinds()
	err := w.program(ctx, w.FFmpeg, "ffmpeg", func(out io.Reader) {
		progressLines(out, func(at float64) { w.report(probedAt+(encodedAt-probedAt)*at/l.length, text) })
	}, nil, l.arguments()...)
	if err != nil && !errors.Is(err, ErrProgram) && !errors.Is(err, syscall.ENOSPC) && ctx.Err() == nil {
		return fmt.Errorf("%w: ffmpeg cannot encode %s: %w", ErrSource, l.clip.file, err)
	}
	return err
}

// progressLines reads ffmpeg's -progress and reports the second it is at.
func progressLines(out io.Reader, at func(float64)) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if us, ok := strings.CutPrefix(lines.Text(), "out_time_us="); ok {
			if n, err := strconv.ParseInt(us, 10, 64); err == nil {
				at(float64(n) / 1e6)
			}
		}
	}
	io.Copy(io.Discard, out)
}

// writeMPD writes the MPD of an encoded ladder: one template for each
// Representation, the exact length, honest bandwidths.
func (w *work) writeMPD(l *ladder) error {
	b, err := os.ReadFile(filepath.Join(w.stage.media(), ffmpegMPD))
	if err != nil {
		return fmt.Errorf("ffmpeg wrote no MPD: %w", err)
	}
	m, err := dash.Parse(b)
	if err != nil {
		return fmt.Errorf("the MPD of ffmpeg: %w", err)
	}
	f, err := os.Create(filepath.Join(w.stage.media(), title.MPDFile))
	if err != nil {
		return err
	}
	sets, err := w.sets(l, m.Representations())
	if err == nil {
		err = mpdTemplate.Execute(f, l.page(sets))
	}
	return errors.Join(err, f.Close())
}

func (l *ladder) page(sets []set) map[string]any {
	page := map[string]any{
		"Length":    xsDuration(l.length),
		"MinBuffer": xsDuration(2 * l.segment),
		"Sets":      sets,
	}
	page["Duration"], page["Timescale"] = l.ticks()
	if l.clip.video != nil {
		page["Rate"] = l.clip.video.rate.String()
	}
	if l.clip.audio != nil {
		page["Channels"] = l.channels()
	}
	return page
}

// An encoded is one Representation for the template.
type encoded struct {
	Index         int // of ffmpeg's stream
	ID, Codecs    string
	Bandwidth     int64
	Width, Height int
}

type set struct {
	Kind string
	Lang string
	Reps []encoded
}

func (w *work) sets(l *ladder, made []*dash.Representation) ([]set, error) {
	if len(made) != len(l.video)+len(l.audio) {
		return nil, fmt.Errorf("ffmpeg made %d streams of %d", len(made), len(l.video)+len(l.audio))
	}
	var video, audio []encoded
	for i, rep := range made {
		sizes, err := w.sizes(i, l.segments)
		if err != nil {
			return nil, err
		}
		e := encoded{Index: i, Codecs: rep.Codecs, Bandwidth: bandwidth(sizes, l.segment, 2*l.segment, l.length)}
		if i < len(l.video) {
			r := l.video[i]
			e.ID, e.Width, e.Height = r.id(), r.width, r.height
			video = append(video, e)
		} else {
			e.ID = l.audio[i-len(l.video)].id()
			audio = append(audio, e)
		}
	}
	var sets []set
	if video != nil {
		sets = append(sets, set{Kind: "video", Reps: video})
	}
	if audio != nil {
		sets = append(sets, set{Kind: "audio", Lang: language(l.clip.audio.lang), Reps: audio})
	}
	return sets, nil
}

// language returns a tag that may stand in an MPD (RFC 5646), or nothing.
func language(s string) string {
	if len(s) < 2 || len(s) > 3 || s == "und" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return s
}

// sizes returns the bytes of the segments that the MPD names. ffmpeg may have
// written one more, of a few bytes, that no player asks for.
func (w *work) sizes(stream, n int) ([]int64, error) {
	sizes := make([]int64, n)
	for i := range sizes {
		var err error
		if sizes[i], err = wholeBoxes(filepath.Join(w.stage.media(), fmt.Sprintf("seg-%d-%05d.m4s", stream, i+1))); err != nil {
			return nil, fmt.Errorf("ffmpeg did not make segment %d of %d: %w", i+1, n, err)
		}
	}
	return sizes, nil
}

// wholeBoxes returns the size of a file that is a row of whole boxes (ISO/IEC
// 14496-12, 4.2). ffmpeg cuts segments off without a word when the disk is full.
func wholeBoxes(file string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var at int64
	for at < info.Size() {
		var head [4]byte
		if _, err := f.ReadAt(head[:], at); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		at += max(8, int64(binary.BigEndian.Uint32(head[:]))) // ffmpeg's segments have no 64-bit boxes
	}
	if at == 0 || at > info.Size() {
		return 0, fmt.Errorf("%s is cut off: %w", file, io.ErrUnexpectedEOF)
	}
	return info.Size(), nil
}

// ticks are the length of a segment, exactly: of video in frames, each as long
// as the denominator of the rate.
func (l *ladder) ticks() (duration, timescale int64) {
	if l.clip.video == nil {
		return int64(l.segment), 1
	}
	return int64(l.gop) * l.clip.video.rate.den, l.clip.video.rate.num
}

// xsDuration is a length in seconds as MPDs write it. It is rounded down: above
// a whole number of segments it would ask for one more.
func xsDuration(seconds float64) string {
	return fmt.Sprintf("PT%.6fS", math.Floor(seconds*1e6+1e-3)/1e6)
}

var mpdTemplate = template.Must(template.New("mpd").Parse(`<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="{{.Length}}" minBufferTime="{{.MinBuffer}}">
  <Period id="0" start="PT0S">
{{- range .Sets}}{{$kind := .Kind}}
    <AdaptationSet contentType="{{.Kind}}" mimeType="{{.Kind}}/mp4" segmentAlignment="true" startWithSAP="1"
      {{- if eq .Kind "video"}} frameRate="{{$.Rate}}"{{else}} audioSamplingRate="48000"{{with .Lang}} lang="{{.}}"{{end}}{{end}}>
{{- range .Reps}}
      <Representation id="{{.ID}}" codecs="{{.Codecs}}" bandwidth="{{.Bandwidth}}"{{if .Width}} width="{{.Width}}" height="{{.Height}}"{{end}}>
{{- if eq $kind "audio"}}
        <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="{{$.Channels}}"/>
{{- end}}
        <SegmentTemplate timescale="{{$.Timescale}}" duration="{{$.Duration}}" startNumber="1" initialization="init-{{.Index}}.mp4" media="seg-{{.Index}}-$Number%05d$.m4s"/>
      </Representation>
{{- end}}
    </AdaptationSet>
{{- end}}
  </Period>
</MPD>
`))

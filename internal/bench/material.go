package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"htlcdash"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// prices are those of the demo.
var prices = publish.Policy{PerMB: 10 * lightning.Sat, Floor: lightning.Sat}

const filmName = "film"

// publisherKey signs what is sold to nobody.
func publisherKey() (htlcdash.PublisherKey, error) { return htlcdash.NewPublisherKey([32]byte{31: 1}) }

// film is a folder of titles that holds the film, published once, in groups as
// they come.
func (s *stage) film(ctx context.Context) (titles string, err error) {
	titles = filepath.Join(s.Folder, "titles-grouped")
	out := filepath.Join(titles, filmName)
	if _, err := title.OpenDir(out); err == nil {
		return titles, nil
	}
	if err := os.MkdirAll(titles, 0o755); err != nil {
		return "", err
	}
	s.Progress("publishing the film, once")
	_, err = s.publish(ctx, s.Film, out, publish.Grouping{Auto: true}, nil)
	return titles, err
}

func (s *stage) publish(ctx context.Context, source, out string, group publish.Grouping, progress func(publish.Progress)) (*publish.Result, error) {
	key, err := publisherKey()
	if err != nil {
		return nil, err
	}
	return publish.Run(ctx, publish.Options{Source: source, Out: out, Key: key, Price: prices, Group: group, SegmentSeconds: 2, Force: true}, progress)
}

// plain lays the film out as any web server has it: opened with the keys.
func (s *stage) plain(ctx context.Context, titles string) (dir string, err error) {
	dir = filepath.Join(s.dir, "plain")
	sealed := filepath.Join(titles, filmName)
	t, err := title.OpenDir(sealed)
	if err != nil {
		return "", err
	}
	keys, err := title.LoadKeys(publish.KeysFile(sealed))
	if err != nil {
		return "", err
	}
	return dir, laidOpen(ctx, t, keys, sealed, dir)
}

// laidOpen writes t, whose sealed folder this is, to dir.
func laidOpen(ctx context.Context, t *title.Title, keys *title.Keys, sealed, dir string) error {
	// One byte more makes it another title.
	if err := write(filepath.Join(dir, title.MPDFile), slices.Concat(t.MPD, []byte("\n"))); err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		head, err := t.Init(ctx, rep.ID)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, rep.Init.Path), head); err != nil {
			return err
		}
		segs, err := t.Segments(ctx, rep.ID)
		if err != nil {
			return err
		}
		for i, seg := range segs {
			data, err := unsealed(ctx, sealed, keys, seg)
			if err != nil {
				return err
			}
			if err := write(filepath.Join(dir, rep.Segments[i].Path), data); err != nil {
				return err
			}
		}
	}
	return nil
}

func unsealed(ctx context.Context, dir string, keys *title.Keys, seg htlcdash.Segment) ([]byte, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, htlcdash.SealedPath(seg.Sealed)))
	if err != nil {
		return nil, err
	}
	key, err := keys.Key(ctx, seg)
	if err != nil {
		return nil, err
	}
	return seg.Open(key, sealed)
}

func write(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// A rung is one Representation of a title that is made up. All its segments
// are two seconds long.
type rung struct {
	id        string
	bandwidth int64 // bit/s
	shape     string
	count     int
	head      []byte
	segment   func(i int) ([]byte, error)
}

// folder writes a DASH folder of rungs of video and audio.
func folder(dir string, video, audio []rung) error {
	var mpd bytes.Buffer
	fmt.Fprintf(&mpd, `<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="PT%dS" minBufferTime="PT2S">
<Period id="0" start="PT0S">
`, 2*slices.Concat(video, audio)[0].count)
	for kind, rungs := range map[string][]rung{"video": video, "audio": audio} {
		if len(rungs) == 0 {
			continue
		}
		fmt.Fprintf(&mpd, `<AdaptationSet contentType="%[1]s" mimeType="%[1]s/mp4" segmentAlignment="true">`+"\n", kind)
		fmt.Fprintln(&mpd, `<SegmentTemplate timescale="1" duration="2" startNumber="0" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s"/>`)
		for _, r := range rungs {
			fmt.Fprintf(&mpd, `<Representation id="%s" bandwidth="%d" %s/>`+"\n", r.id, r.bandwidth, r.shape)
			if err := r.write(filepath.Join(dir, r.id)); err != nil {
				return err
			}
		}
		mpd.WriteString("</AdaptationSet>\n")
	}
	mpd.WriteString("</Period>\n</MPD>\n")
	return write(filepath.Join(dir, title.MPDFile), mpd.Bytes())
}

func (r rung) write(dir string) error {
	if err := write(filepath.Join(dir, "init.mp4"), r.head); err != nil {
		return err
	}
	for i := range r.count {
		data, err := r.segment(i)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.m4s", i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// noise is a rung of segments of size bytes, no two of them the same.
func noise(id string, count, size int) rung {
	return rung{
		id: id, bandwidth: int64(size) * 4, shape: `codecs="avc1.640015" width="426" height="240"`, count: count, head: make([]byte, 700),
		segment: func(i int) ([]byte, error) {
			var seed [32]byte
			copy(seed[:], fmt.Sprintf("%s %d %d", id, i, size))
			b := make([]byte, size)
			rand.NewChaCha8(seed).Read(b)
			return b, nil
		},
	}
}

// made publishes a title of noise into a folder of titles of its own.
func (s *stage) made(ctx context.Context, name string, rungs ...rung) (titles string, err error) {
	return s.madeInto(ctx, name, name, rungs...)
}

// madeInto publishes a title of noise into a folder that may hold others.
func (s *stage) madeInto(ctx context.Context, folderName, name string, rungs ...rung) (titles string, err error) {
	source := filepath.Join(s.dir, name+".dash")
	defer os.RemoveAll(source)
	titles = filepath.Join(s.dir, folderName+".titles")
	if err := os.MkdirAll(titles, 0o755); err != nil {
		return "", err
	}
	if err := folder(source, rungs, nil); err != nil {
		return "", err
	}
	_, err = s.publish(ctx, source, filepath.Join(titles, name), publish.Grouping{}, nil)
	return titles, err
}

// long publishes the film again and again as one title of a number of
// segments, once. Each repetition carries its number in an ISO free box, or
// else it would be the same segments, which are bought once.
func (s *stage) long(ctx context.Context, titles string, count int) (folderOfTitles string, err error) {
	folderOfTitles = filepath.Join(s.Folder, fmt.Sprintf("titles-%d", count))
	out := filepath.Join(folderOfTitles, filmName)
	if _, err := os.Stat(filepath.Join(out, title.SignatureFile)); err == nil {
		return folderOfTitles, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	s.Progress(fmt.Sprintf("publishing a title of %d segments in each quality, once", count))
	if err := os.MkdirAll(folderOfTitles, 0o755); err != nil {
		return "", err
	}
	short := filepath.Join(titles, filmName)
	t, err := title.OpenDir(short)
	if err != nil {
		return "", err
	}
	keys, err := title.LoadKeys(publish.KeysFile(short))
	if err != nil {
		return "", err
	}
	rungs := map[string][]rung{}
	for _, rep := range t.Manifest.Representations() {
		head, err := t.Init(ctx, rep.ID)
		if err != nil {
			return "", err
		}
		segs, err := t.Segments(ctx, rep.ID)
		if err != nil {
			return "", err
		}
		shape := fmt.Sprintf("codecs=%q", rep.Codecs)
		if rep.Height > 0 {
			shape += fmt.Sprintf(` width="%d" height="%d"`, rep.Width, rep.Height)
		}
		rungs[rep.ContentType] = append(rungs[rep.ContentType], rung{
			id: rep.ID, bandwidth: rep.Bandwidth, shape: shape, count: count, head: head,
			segment: func(i int) ([]byte, error) {
				data, err := unsealed(ctx, short, keys, segs[i%len(segs)])
				return append(data, freeBox(i/len(segs))...), err
			},
		})
	}
	source := filepath.Join(s.dir, "long.dash")
	defer os.RemoveAll(source)
	if err := folder(source, rungs["video"], rungs["audio"]); err != nil {
		return "", err
	}
	_, err = s.publish(ctx, source, out, publish.Grouping{}, nil)
	return folderOfTitles, err
}

// freeBox is an ISO free box with a number in it (ISO/IEC 14496-12, 8.1.2).
func freeBox(n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, 16)
	b = append(b, "free"...)
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

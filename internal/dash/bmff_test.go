package dash_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
)

// box is a box of ISO BMFF.
func box(kind string, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(append(b, kind...), body...)
}

type reference struct{ size, duration uint32 }

// sidx is a segment index of the version that its numbers need.
func sidx(timescale uint32, earliest, first uint64, refs ...reference) []byte {
	be := binary.BigEndian
	b := []byte{0, 0, 0, 0}
	if earliest>>32 > 0 || first>>32 > 0 {
		b[0] = 1
	}
	b = be.AppendUint32(b, 1) // reference_ID
	b = be.AppendUint32(b, timescale)
	for _, v := range []uint64{earliest, first} {
		if b[0] == 1 {
			b = be.AppendUint64(b, v)
		} else {
			b = be.AppendUint32(b, uint32(v))
		}
	}
	b = be.AppendUint16(b, 0)
	b = be.AppendUint16(b, uint16(len(refs)))
	for _, r := range refs {
		b = be.AppendUint32(b, r.size)
		b = be.AppendUint32(b, r.duration)
		b = be.AppendUint32(b, 0x90000000)
	}
	return box("sidx", b...)
}

// onDemand is a file of one Representation and its MPD. The index range begins
// behind 32 bytes.
func onDemand(index []byte) (mpd string, file []byte) {
	file = append(box("ftyp", make([]byte, 24)...), index...)
	return video(rep + fmt.Sprintf(`<BaseURL>v.mp4</BaseURL><SegmentBase timescale="10" presentationTimeOffset="20" indexRange="32-%d"><Initialization range="0-31"/></SegmentBase></Representation>`, len(file)-1)), file
}

// resolve parses mpd and gives Resolve the one file.
func resolve(t testing.TB, mpd string, file []byte) (*dash.Manifest, error) {
	t.Helper()
	m := parse(t, mpd)
	return m, m.Resolve(t.Context(), func(_ context.Context, path string, offset, length int64) ([]byte, error) {
		if path != "v.mp4" {
			return nil, fmt.Errorf("asked for %s", path)
		}
		return file[offset : offset+length], nil
	})
}

func TestResolve(t *testing.T) {
	for name, tt := range map[string]struct {
		index []byte
		want  string
	}{
		"plain":                 {sidx(100, 200, 0, reference{1000, 400}, reference{500, 100}), "v v.mp4[0+88] | v.mp4[88+1000]@0s+4s v.mp4[1088+500]@4s+1s"},
		"overlaps its Period":   {sidx(1, 0, 0, reference{7, 3}), "v v.mp4[0+76] | v.mp4[76+7]@-2s+3s"},
		"gap in front of media": {sidx(100, 200, 50, reference{1000, 400}), "v v.mp4[0+126] | v.mp4[126+1000]@0s+4s"},
		"64 bits":               {sidx(1<<31, 1<<32+1<<31, 1<<33, reference{1<<31 - 1, 1 << 31}), "v v.mp4[0+8589934676] | v.mp4[8589934676+2147483647]@1s+1s"},
		"other boxes":           {bytes.Join([][]byte{box("free"), sidx(1, 2, 0, reference{7, 3}), box("ssix", 1, 2, 3)}, nil), "v v.mp4[0+84] | v.mp4[84+7]@0s+3s"},
	} {
		t.Run(name, func(t *testing.T) {
			mpd, file := onDemand(tt.index)
			m, err := resolve(t, mpd, file)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(m); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err := m.Publishable(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResolveRejects(t *testing.T) {
	good := sidx(1, 0, 0, reference{7, 3})
	for name, tt := range map[string]struct {
		index []byte
		says  string
	}{
		"no box":             {[]byte("\x1a\x45\xdf\xa3 webm cues are here"), "WebM"},
		"no sidx":            {box("free"), "no sidx"},
		"two":                {append(bytes.Clone(good), good...), "one flat sidx"},
		"hierarchy":          {sidx(1, 0, 0, reference{1<<31 | 7, 3}), "one flat sidx"},
		"no segments":        {sidx(1, 0, 0), "no segments"},
		"segment of 0 bytes": {sidx(1, 0, 0, reference{0, 3}), "0 bytes"},
		"timescale 0":        {sidx(0, 0, 0, reference{7, 3}), "timescale 0"},
		"absurd time":        {sidx(1, 1<<63, 0, reference{7, 3}), "absurd"},
		"late":               {sidx(1, 1<<40, 0, reference{7, 3}), "10 years"},
		"absurd gap":         {sidx(1, 0, 1<<63, reference{7, 3}), "absurd"},
		"version 2":          {box("sidx", append([]byte{2}, make([]byte, 40)...)...), "version 2"},
		"cut off":            {good[:len(good)-1], "cut off"},
		"trailing bytes":     {box("sidx", append(bytes.Clone(good[8:]), 0)...), "longer"},
		"empty":              {box("sidx"), "cut off"},
		"header cut off":     {append(box("free"), 0, 0, 0), "cut off"},
		"size in the header": {[]byte("\x00\x00\x00\x07sidx"), "less than its header"},
		"huge box":           {[]byte("\x00\x00\x00\x01sidx\xff\xff\xff\xff\xff\xff\xff\xff"), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			mpd, file := onDemand(tt.index)
			m, err := resolve(t, mpd, file)
			if !errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one of format that says %q", err, tt.says)
			}
			if m.Representations()[0].Segments != nil {
				t.Error("segments of an index that was refused")
			}
		})
	}
}

func TestResolveReadsOnce(t *testing.T) {
	mpd, file := onDemand(sidx(1, 2, 0, reference{7, 3}))
	m, err := resolve(t, mpd, file)
	if err != nil {
		t.Fatal(err)
	}
	if _, index, ok := m.Find("v.mp4", 76); !ok || index != 0 {
		t.Error("its first segment is not found")
	}
	err = m.Resolve(t.Context(), func(context.Context, string, int64, int64) ([]byte, error) {
		return nil, errors.New("read again")
	})
	if err != nil {
		t.Error(err)
	}
}

func TestResolvePassesErrorsOn(t *testing.T) {
	mpd, _ := onDemand(sidx(1, 2, 0, reference{7, 3}))
	read := func(context.Context, string, int64, int64) ([]byte, error) { return nil, htlcdash.ErrNotFound }
	if err := parse(t, mpd).Resolve(t.Context(), read); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Error(err)
	}
	short := func(context.Context, string, int64, int64) ([]byte, error) { return []byte{1}, nil }
	if err := parse(t, mpd).Resolve(t.Context(), short); !errors.Is(err, htlcdash.ErrFormat) {
		t.Error(err)
	}
}

func TestBoxes(t *testing.T) {
	b := bytes.Join([][]byte{
		box("ftyp", 1, 2),
		[]byte("\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x12\x07\x08"),
		box("free"),
		[]byte("\x00\x00\x00\x00mdatrest"),
	}, nil)
	var got []string
	for box, err := range dash.Boxes(b) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d %d %q", box.Type, box.Offset, box.Size, box.Body))
	}
	want := []string{`ftyp 0 10 "\x01\x02"`, `mdat 10 18 "\a\b"`, `free 28 8 ""`, `mdat 36 12 "rest"`}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

package remux

import (
	"bytes"
	"slices"

	"htlcdash/internal/dash"
)

// Bounds on what an initialization segment may claim.
const (
	maxInit    = 4 << 20 // bytes
	maxTracks  = 64
	maxEntries = 64      // sample entries of a track
	maxScale   = 1 << 28 // ticks of a second
)

// A header is what one track of an initialization segment says.
type header struct {
	id            uint32 // of the track
	timescale     int64  // ticks of a second
	edit          int64  // by the edit list: added to media times, in ticks
	language      uint16
	matrix        []byte // 36 bytes: how it is turned
	width, height uint32 // 16.16 pixels
	entries       []entry
	defaults      defaults
}

// defaults are what a fragment need not say of its samples.
type defaults struct{ description, duration, size, flags uint32 }

// An entry is a sample entry (8.5.2): a codec with what its decoder needs.
type entry struct {
	kind string
	body []byte
}

// readInit reads the track of the given kind.
func readInit(b []byte, kind Kind) (*header, error) {
	switch {
	case len(b) > maxInit:
		return nil, broken("initialization segment of %d bytes", len(b))
	case bytes.HasPrefix(b, []byte("\x1a\x45\xdf\xa3")):
		return nil, unsupported("it is WebM: want fragmented MP4")
	}
	moov, err := child(b, "moov")
	if err != nil {
		return nil, err
	}
	mvhd, err := child(moov, "mvhd")
	if err != nil {
		return nil, err
	}
	scale, err := timescale(mvhd)
	if err != nil {
		return nil, err
	}
	handler := map[Kind]string{Video: "vide", Audio: "soun"}[kind]
	tracks := 0
	for box, err := range boxes(moov) {
		if err != nil {
			return nil, err
		}
		if box.Type != "trak" {
			continue
		}
		if tracks++; tracks > maxTracks {
			return nil, broken("more than %d tracks", maxTracks)
		}
		hdlr, err := child(box.Body, "mdia", "hdlr")
		if err != nil {
			return nil, err
		}
		r := reader{b: hdlr}
		if r.skip(8); string(r.take(4)) == handler {
			return readTrack(moov, box, scale)
		}
	}
	return nil, broken("no track of %s", kind)
}

// timescale reads it from a mvhd or mdhd box, which begin alike.
func timescale(b []byte) (int64, error) {
	r := reader{b: b}
	version, _ := r.full()
	r.word(version)
	r.word(version)
	scale := r.u32()
	if r.short || version > 1 || scale == 0 || scale > maxScale {
		return 0, broken("timescale %d", scale)
	}
	return int64(scale), nil
}

func readTrack(moov []byte, trak dash.Box, movieScale int64) (*header, error) {
	h := &header{}
	tkhd, err := child(trak.Body, "tkhd")
	if err != nil {
		return nil, err
	}
	if err := h.readTkhd(tkhd); err != nil {
		return nil, err
	}
	mdhd, err := child(trak.Body, "mdia", "mdhd")
	if err != nil {
		return nil, err
	}
	if h.timescale, err = timescale(mdhd); err != nil {
		return nil, err
	}
	h.readLanguage(mdhd)
	if err := h.readEdits(trak.Body, movieScale); err != nil {
		return nil, err
	}
	stsd, err := child(trak.Body, "mdia", "minf", "stbl", "stsd")
	if err != nil {
		return nil, err
	}
	if err := h.readEntries(stsd); err != nil {
		return nil, err
	}
	return h, h.readDefaults(moov)
}

func (h *header) readTkhd(b []byte) error {
	r := reader{b: b}
	version, _ := r.full()
	r.word(version)
	r.word(version)
	h.id = r.u32()
	r.skip(4)
	r.word(version)
	r.skip(16)
	h.matrix = r.take(36)
	h.width, h.height = r.u32(), r.u32()
	if r.short || version > 1 {
		return broken("tkhd box is cut off")
	}
	return nil
}

func (h *header) readLanguage(mdhd []byte) {
	r := reader{b: mdhd}
	version, _ := r.full()
	r.word(version)
	r.word(version)
	r.skip(4)
	r.word(version)
	h.language = r.u16()
}

// readEdits reads the edit list (8.6.6): how much is empty at the begin, and
// which media time plays then. Encoders put their delay there.
func (h *header) readEdits(trak []byte, movieScale int64) error {
	elst, err := child(trak, "edts", "elst")
	if err != nil {
		return nil // there is none
	}
	r := reader{b: elst}
	version, _ := r.full()
	for range min(r.u32(), 2) { // what plays after them is not looked at
		duration, media := r.word(version), int64(0)
		if version == 0 {
			media = int64(int32(r.u32()))
		} else {
			media = int64(r.u64())
		}
		r.skip(4)
		if r.short || version > 1 || duration/uint64(movieScale) > maxSeconds || media/h.timescale > maxSeconds || media < -1 {
			return broken("edit list is cut off, or absurd")
		}
		if media >= 0 {
			h.edit -= media
			return nil
		}
		h.edit = rescale(int64(duration), movieScale, h.timescale)
	}
	return nil
}

func (h *header) readEntries(stsd []byte) error {
	if len(stsd) < 8 {
		return broken("stsd box is cut off")
	}
	for box, err := range boxes(stsd[8:]) {
		if err != nil {
			return err
		}
		if len(h.entries) == maxEntries {
			return broken("more than %d sample entries", maxEntries)
		}
		if box.Type == "encv" || box.Type == "enca" {
			return unsupported("it is encrypted")
		}
		h.entries = append(h.entries, entry{box.Type, slices.Clone(box.Body)})
	}
	if len(h.entries) == 0 {
		return broken("no sample entry")
	}
	return nil
}

func (h *header) readDefaults(moov []byte) error {
	mvex, err := child(moov, "mvex")
	if err != nil {
		return unsupported("no mvex box: want fragmented MP4")
	}
	for box, err := range boxes(mvex) {
		if err != nil {
			return err
		}
		r := reader{b: box.Body}
		if r.full(); box.Type != "trex" || r.u32() != h.id {
			continue
		}
		h.defaults = defaults{r.u32(), r.u32(), r.u32(), r.u32()}
		if r.short {
			return broken("trex box is cut off")
		}
		return nil
	}
	return broken("no trex box for track %d", h.id)
}

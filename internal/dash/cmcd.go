package dash

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CMCD is what a player says of itself with a request (CTA-5004). What it did
// not say, or said in a malformed way, is zero. None of it is to be trusted:
// it may guide what is fetched ahead, never what is spent.
type CMCD struct {
	Present bool // a known key was said

	Buffer      time.Duration // bl: what is buffered
	BufferKnown bool          // bl was said, be it 0
	Deadline    time.Duration // dl: until the buffer is empty
	Duration    time.Duration // d: of the object
	Starved     bool          // bs: the buffer ran empty since the last request
	Startup     bool          // su: start, seek, or an empty buffer: wanted at once

	Bitrate    int64 // br: of the object, bit/s
	TopBitrate int64 // tb: the highest that the player may choose, bit/s
	Throughput int64 // mtp: as the player measured it, bit/s
	MaxRate    int64 // rtp: faster than this is of no use, bit/s

	ObjectType   string  // ot: "v" video, "a" audio, "av", "i" init, "m" manifest, "c" caption, "tt", "k", "o"
	StreamType   string  // st: "v" on demand, "l" live
	Format       string  // sf: "d" for DASH
	PlaybackRate float64 // pr: 0 if not said, which means 1

	NextObject string // nor: a reference relative to the request; see [CMCD.Next]
	NextRange  string // nrr: "first-last" of it
	SessionID  string // sid
	ContentID  string // cid
}

const (
	maxCMCD     = 4096 // bytes of the query value, or of one header
	maxCMCDText = 128  // bytes of a text but nor
)

// ParseCMCD reads CMCD from a query, key CMCD, and from the four headers; it
// takes url.Values and http.Header. It understands version 1, and of version 2
// what has the same meaning.
func ParseCMCD(query, header map[string][]string) CMCD {
	var c CMCD
	for _, values := range [][]string{
		query["CMCD"],
		header["Cmcd-Object"], header["Cmcd-Request"], header["Cmcd-Session"], header["Cmcd-Status"],
	} {
		if len(values) > 0 && len(values[0]) <= maxCMCD {
			c.parse(values[0])
		}
	}
	return c
}

func (c *CMCD) parse(s string) {
	for s != "" {
		var key, value string
		key, value, s = cutPair(s)
		if c.set(key, value) {
			c.Present = true
		}
	}
}

// cutPair cuts the first pair off a list. Of an inner list (version 2) the
// first item counts; parameters are skipped.
func cutPair(s string) (key, value, rest string) {
	n := strings.IndexAny(s, "=,;")
	if n < 0 {
		return strings.TrimSpace(s), "", ""
	}
	key, rest = strings.TrimSpace(s[:n]), s[n:]
	if rest[0] == '=' {
		value, rest = cutValue(strings.TrimPrefix(rest[1:], "("))
	}
	for rest != "" && rest[0] != ',' {
		if rest[0] == '"' {
			_, rest = cutValue(rest)
		} else {
			rest = rest[1:]
		}
	}
	return key, value, strings.TrimPrefix(rest, ",")
}

// cutValue cuts a quoted string or a token off s.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		n := strings.IndexAny(s, ",; )")
		if n < 0 {
			n = len(s)
		}
		return s[:n], s[n:]
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return out.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		out.WriteByte(s[i])
	}
	return "", "" // never closed
}

// set takes one value, and reports whether it knows the key.
func (c *CMCD) set(key, value string) bool {
	switch key {
	case "bl":
		c.Buffer, c.BufferKnown = milliseconds(value)
	case "dl":
		c.Deadline, _ = milliseconds(value)
	case "d":
		c.Duration, _ = milliseconds(value)
	case "bs":
		c.Starved = flag(value)
	case "su":
		c.Startup = flag(value)
	case "br":
		c.Bitrate = kilobits(value)
	case "tb":
		c.TopBitrate = kilobits(value)
	case "mtp":
		c.Throughput = kilobits(value)
	case "rtp":
		c.MaxRate = kilobits(value)
	case "ot":
		c.ObjectType = short(value)
	case "st":
		c.StreamType = short(value)
	case "sf":
		c.Format = short(value)
	case "pr":
		c.PlaybackRate = rate(value)
	case "nor":
		c.NextObject = reference(value)
	case "nrr":
		c.NextRange = short(value)
	case "sid":
		c.SessionID = short(value)
	case "cid":
		c.ContentID = short(value)
	default:
		return false
	}
	return true
}

// number reads a whole number; a fraction is cut off.
func number(s string, limit uint64) (int64, bool) {
	s, _, _ = strings.Cut(s, ".")
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > limit {
		return 0, false
	}
	return int64(n), true
}

func milliseconds(s string) (time.Duration, bool) {
	n, ok := number(s, uint64(maxSpan/time.Millisecond))
	return time.Duration(n) * time.Millisecond, ok
}

// kilobits gives bit/s.
func kilobits(s string) int64 {
	n, _ := number(s, 1e12)
	return n * 1000
}

func flag(s string) bool { return s == "" || s == "true" || s == "?1" }

func rate(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 100) { // neither NaN
		return 0
	}
	return f
}

func short(s string) string {
	if len(s) > maxCMCDText {
		return ""
	}
	return s
}

// reference undoes the encoding that version 1 puts around an address.
func reference(s string) string {
	ref, err := url.PathUnescape(s)
	if err != nil || len(s) > 3*maxPath {
		return ""
	}
	return ref
}

// Next returns what the player will ask for after the request for path, which
// is relative to the MPD like Resource.Path. It is for [Manifest.Find]. If the
// player did not say, or named something outside the title, ok is false.
func (c CMCD) Next(path string) (next string, offset int64, ok bool) {
	if c.NextObject == "" && c.NextRange == "" {
		return "", 0, false
	}
	if isAbsolute(c.NextObject) {
		return "", 0, false
	}
	ref, _, _ := strings.Cut(c.NextObject, "?") // players repeat their own query
	next, err := cleanPath(join(encode(path), ref))
	if err != nil {
		return "", 0, false
	}
	if c.NextRange != "" {
		offset, _, _ = parseRange(c.NextRange)
		if first, found := strings.CutSuffix(c.NextRange, "-"); found {
			offset, _ = number(first, maxNumber)
		}
	}
	return next, offset, true
}

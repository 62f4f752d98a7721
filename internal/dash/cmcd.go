package dash

import "time"

// CMCD is what a player says of itself with a request (CTA-5004). A missing or
// malformed value is zero.
type CMCD struct {
	Present bool // anything was said

	Buffer      time.Duration // bl: length of the buffer
	BufferKnown bool          // bl was said
	Deadline    time.Duration // dl
	Duration    time.Duration // d: of the object
	Starved     bool          // bs
	Startup     bool          // su

	Bitrate    int64 // br: of the object, bit/s
	TopBitrate int64 // tb: highest that the player may choose, bit/s
	Throughput int64 // mtp: measured, bit/s
	MaxRate    int64 // rtp: requested maximum throughput, bit/s

	ObjectType   string  // ot: "v", "a", "av", "i", "m", "c", ...
	StreamType   string  // st: "v" or "l"
	Format       string  // sf: "d" for DASH
	PlaybackRate float64 // pr

	NextObject string // nor: relative to the request, percent-decoded
	NextRange  string // nrr: as in a Range header, without the unit
	SessionID  string // sid
	ContentID  string // cid
}

// ParseCMCD reads CMCD from a query (key CMCD) and from the four headers.
// It takes url.Values and http.Header.
func ParseCMCD(query, header map[string][]string) CMCD { return CMCD{} }

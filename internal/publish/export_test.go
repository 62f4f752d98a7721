package publish

import (
	"fmt"
	"time"

	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// Price opens the pure function behind [Policy] to its test.
func (p Policy) Price(r *dash.Representation, length int64, d time.Duration) (lightning.Msat, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	return p.price(r, length, d)
}

// A Plan is a ladder in words.
type Plan struct {
	Rungs    []string // "240p 426x240"
	Rate     string
	GOP      int
	Segments int
	Length   float64
}

// PlanFor plans for a clip of that shape; audio only if width is 0.
func PlanFor(width, height int, nominal, average string, length float64, segmentSeconds int) (p Plan) {
	c := &clip{end: length}
	if width > 0 {
		c.video = &videoTrack{width: width, height: height, rate: pickRate(nominal, average)}
		p.Rate = c.video.rate.String()
	}
	l := plan(c, segmentSeconds)
	for _, r := range l.video {
		p.Rungs = append(p.Rungs, fmt.Sprintf("%s %dx%d", r.id(), r.width, r.height))
	}
	p.GOP, p.Segments, p.Length = l.gop, l.segments, l.length
	return p
}

var (
	Bandwidth = bandwidth
	ListName  = listName
	Decibels  = decibel
)

// Split gives the sizes of the groups that g makes of segments of these
// lengths, in bytes, and durations.
func (g Grouping) Split(kind string, lengths []int64, durations []time.Duration) (counts []int) {
	rep := &dash.Representation{ContentType: kind}
	for _, d := range durations {
		rep.Segments = append(rep.Segments, dash.MediaSegment{Duration: d})
	}
	for _, group := range g.split(rep, lengths) {
		counts = append(counts, group.Count)
	}
	return counts
}

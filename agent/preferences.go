package agent

import (
	"errors"
	"fmt"
)

// Preferences are what a viewer wants besides that the money lasts. The zero
// value wants the best that the money buys, by [Standard] weights.
type Preferences struct {
	Weights Weights `json:"weights"` // without stall and switch: those of [Standard]

	// Thrift is the least gain, in weighted decibel, that is worth what a
	// segment costs at its best. With it a dark or a still shot is bought cheap
	// even if the money is enough for all: nobody would see the difference.
	// 0: all that gains something is worth its price.
	Thrift float64 `json:"thrift"`

	// Bounds of the rungs that are used, lines of a picture and bit/s of sound.
	// 0: none. They give way where a segment has nothing else, and the lower
	// ones where the money does not carry them to the end of the title.
	MinHeight int   `json:"min_height"`
	MaxHeight int   `json:"max_height"`
	MinSound  int64 `json:"min_sound"`
	MaxSound  int64 `json:"max_sound"`

	// SoundOnly asks a player to leave the picture out where there is sound. An
	// [Agent] decides about the tracks that it is given.
	SoundOnly bool `json:"sound_only"`
}

// ErrPreferences means that preferences make no sense, or that no profile has
// that name.
var ErrPreferences = errors.New("agent: not preferences")

const (
	maxWeight = 1000
	maxHeight = 1 << 14
	maxSound  = 1e8
)

// Validate reports what is wrong; the error matches [ErrPreferences].
func (p Preferences) Validate() error {
	for _, w := range []float64{p.Weights.Switch, p.Weights.Stall, p.Thrift, p.Weights.Of(Video), p.Weights.Of(Audio)} {
		if !(w >= 0 && w <= maxWeight) { // nor is it NaN
			return fmt.Errorf("%w: a weight of %v, want 0 to %d", ErrPreferences, w, maxWeight)
		}
	}
	if p.MinHeight < 0 || p.MaxHeight < 0 || p.MinHeight > maxHeight || p.MaxHeight > maxHeight || p.MaxHeight > 0 && p.MaxHeight < p.MinHeight {
		return fmt.Errorf("%w: heights of %d to %d lines", ErrPreferences, p.MinHeight, p.MaxHeight)
	}
	if p.MinSound < 0 || p.MaxSound < 0 || p.MinSound > maxSound || p.MaxSound > maxSound || p.MaxSound > 0 && p.MaxSound < p.MinSound {
		return fmt.Errorf("%w: sound of %d to %d bit/s", ErrPreferences, p.MinSound, p.MaxSound)
	}
	return nil
}

// Profiles are the names that [Profile] knows.
func Profiles() []string { return []string{"film", "music", "podcast", "talk", "data-saver", "best"} }

// Profile returns named preferences:
//
//	film        picture and sound alike; nothing is paid for what can hardly be seen
//	music       sound before picture, and not below 96 kbit/s
//	podcast     sound only; speech gains nothing above 64 kbit/s
//	talk        speech before a picture that mostly stands still
//	data-saver  at most 480 lines, and only what gains much
//	best        all that the money buys
//
// The error matches [ErrPreferences].
func Profile(name string) (Preferences, error) {
	p := Preferences{Weights: Standard}
	weigh := func(picture, sound float64) { p.Weights.Quality = map[Kind]float64{Video: picture, Audio: sound} }
	switch name {
	case "film":
		p.Thrift = 0.5
	case "music":
		weigh(0.5, 2)
		p.Thrift, p.MinSound = 0.5, 96_000
	case "podcast":
		weigh(0.25, 1)
		p.Thrift, p.MaxSound, p.SoundOnly = 1, speech, true
	case "talk":
		weigh(0.5, 2)
		p.Thrift, p.MaxSound = 1, speech
	case "data-saver":
		p.Thrift, p.MaxHeight, p.MaxSound = 5, 480, 128_000
	case "best":
	default:
		return Preferences{}, fmt.Errorf("%w: no profile %q", ErrPreferences, name)
	}
	return p, nil
}

// speech is what is enough for it: encoders are asked for 64 kbit/s, and
// declare a little more.
const speech = 80_000

// weights are those that are meant.
func (p Preferences) weights() Weights {
	w := p.Weights
	if w.Stall == 0 && w.Switch == 0 {
		w.Stall, w.Switch = Standard.Stall, Standard.Switch
	}
	return w
}

// loose are the preferences without the bounds that cost money.
func (p Preferences) loose() Preferences {
	p.MinHeight, p.MinSound = 0, 0
	return p
}

// allowed are the rungs of a segment that may be bought: at least one. Where
// none is within the bounds, the lower ones do not count; where all are above
// the upper ones, the lowest rung is allowed.
func (p Preferences) allowed(s Segment) (rungs []int) {
	for _, p := range []Preferences{p, p.loose()} {
		for r, g := range s.Rungs {
			if within(g.Height, p.MinHeight, p.MaxHeight) && within(g.Rate, p.MinSound, p.MaxSound) {
				rungs = append(rungs, r)
			}
		}
		if len(rungs) > 0 {
			return rungs
		}
	}
	return []int{0}
}

// within says that a value, 0 if not known, keeps to bounds, of which the
// upper one is 0 if there is none.
func within[T int | int64](v, low, high T) bool {
	return v == 0 || v >= low && (high == 0 || v <= high)
}

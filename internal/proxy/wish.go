package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"htlcdash"
	"htlcdash/agent"
)

// A Wish is what a viewer wants of a film, besides that it costs no more than
// its budget. Fields that are zero are as the profile has them. Heights give way
// where the budget does not carry them to the end.
type Wish struct {
	Profile   string  `json:"profile"`    // a name of [agent.Profiles]; empty: "film"
	MinHeight int     `json:"min_height"` // lines of picture, never below
	MaxHeight int     `json:"max_height"` // lines of picture, never above
	Thrift    float64 `json:"thrift"`     // decibel that the price of a segment at its best must gain; see [agent.Preferences]
	Sound     float64 `json:"sound"`      // weight of a decibel of sound beside one of the picture
	Switch    float64 `json:"switch"`     // weight of changes of quality
	Stall     float64 `json:"stall"`      // decibel for a second of waiting
}

// check reports what is wrong; the error matches [agent.ErrPreferences].
func (w Wish) check() error {
	for _, f := range []float64{w.Thrift, w.Sound, w.Switch, w.Stall} {
		if !(f >= 0) { // zero means the profile's
			return fmt.Errorf("%w: a weight of %v", agent.ErrPreferences, f)
		}
	}
	p, err := w.Resolve()
	if err != nil {
		return err
	}
	return p.Validate()
}

// preferences are a wish that was checked in the agent's terms.
func (w Wish) preferences() agent.Preferences {
	p, err := w.Resolve()
	if err != nil {
		panic("proxy: " + err.Error()) // checked
	}
	return p
}

// Resolve gives a wish in the agent's terms. The error matches
// [agent.ErrPreferences] if there is no such profile.
func (w Wish) Resolve() (agent.Preferences, error) {
	p, err := agent.Profile(cmp.Or(w.Profile, "film"))
	if err != nil {
		return p, err
	}
	p.MinHeight = cmp.Or(w.MinHeight, p.MinHeight)
	p.MaxHeight = cmp.Or(w.MaxHeight, p.MaxHeight)
	p.Thrift = cmp.Or(w.Thrift, p.Thrift)
	p.Weights.Switch = cmp.Or(w.Switch, p.Weights.Switch)
	p.Weights.Stall = cmp.Or(w.Stall, p.Weights.Stall)
	if w.Sound > 0 {
		p.Weights.Quality = map[agent.Kind]float64{agent.Video: p.Weights.Of(agent.Video), agent.Audio: w.Sound}
	}
	return p, nil
}

// Settings keep what a person chose at run time: a ledger does.
type Settings interface {
	// Setting returns a value; the error matches [htlcdash.ErrNotFound] if there
	// is none.
	Setting(ctx context.Context, name string) (string, error)
	Set(ctx context.Context, name, value string) error
}

func (f *film) wishSetting() string { return "wish/" + f.id.String() }

// recallWish takes what was chosen in an earlier run.
func (f *film) recallWish() {
	if f.proxy.settings == nil {
		return
	}
	text, err := f.proxy.settings.Setting(f.proxy.ctx, f.wishSetting())
	if errors.Is(err, htlcdash.ErrNotFound) {
		return
	}
	var w Wish
	if err == nil {
		err = json.Unmarshal([]byte(text), &w)
	}
	if err == nil {
		err = w.check()
	}
	if err != nil {
		f.proxy.log.Warn("preferences of an earlier run", "title", f.name, "error", err)
		return
	}
	f.wish = w
}

// apiPreferences changes what is wanted of a title: {"title": id or name, and
// the fields of a Wish}. Those that are left out are as the profile has them.
func (p *Proxy) apiPreferences(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Title string `json:"title"`
		Wish
	}
	f, ok := p.post(w, r, &q, &q.Title)
	if !ok {
		return
	}
	if err := q.Wish.check(); err != nil {
		refuse(w, http.StatusBadRequest, "These preferences make no sense: "+err.Error()+".")
		return
	}
	f.mu.Lock()
	f.wish = q.Wish
	f.mu.Unlock()
	f.think()
	if p.settings != nil {
		text, err := json.Marshal(q.Wish)
		if err != nil {
			panic("proxy: " + err.Error()) // checked
		}
		if err := p.settings.Set(r.Context(), f.wishSetting(), string(text)); err != nil {
			p.broken(w, "preferences", err)
			return
		}
	}
	p.changed()
	answer(w, p.state(f))
}

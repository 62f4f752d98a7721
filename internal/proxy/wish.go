package proxy

import "htlcdash/agent"

// A Wish is what a viewer wants of a film, besides that it costs no more than
// the budget.
type Wish struct {
	Profile   string `json:"profile"`
	MinHeight int    `json:"min_height"`
}

func (w Wish) preferences() agent.Preferences {
	return agent.Preferences{Weights: agent.Standard, MinHeight: w.MinHeight}
}

package proxy

import (
	"time"

	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// A rung is one Representation and what is left of it to pay.
type rung struct {
	rep  *dash.Representation
	cost lightning.Msat // from here to the end
}

// slack is what a rung must cost less than the budget, in percent, before a
// player is let up to it again, so that the cap does not flutter.
const slack = 10

// affordable returns the highest bandwidth of video that the money left
// carries to the end of the film, sound included, and whether it carries even
// the cheapest, which is always allowed. The rungs ascend in bandwidth; before
// is the last answer, 0 if there was none.
func affordable(left lightning.Msat, video []rung, sound lightning.Msat, before int64) (bandwidth int64, enough bool) {
	for i, r := range video {
		need := r.cost + sound
		if before > 0 && r.rep.Bandwidth > before {
			need += need * slack / 100
		}
		if need <= left {
			bandwidth, enough = r.rep.Bandwidth, true
		} else if i == 0 {
			bandwidth = r.rep.Bandwidth
		}
	}
	return bandwidth, enough
}

// remaining returns what the segments of rep that start at or after a time
// cost, those this run bought left out. Before its prices are known it is the
// share of the total. f.mu is held.
func (f *film) remaining(rep *dash.Representation, at time.Duration) (cost lightning.Msat) {
	if rep == nil || rep.Pay == nil {
		return 0
	}
	prices := f.prices[rep.ID]
	if prices == nil {
		left := max(f.manifest.Duration()-at, 0)
		return lightning.Msat(float64(rep.Pay.Total) * float64(left) / float64(max(f.manifest.Duration(), 1)))
	}
	for i, s := range rep.Segments {
		if _, ours := f.tally.paid[piece{rep, i}]; s.Start >= at && !ours {
			cost += prices[i]
		}
	}
	return cost
}

// asking is what the publisher asks for p, bought or not. f.mu is held.
func (f *film) asking(p piece) lightning.Msat {
	switch prices := f.prices[p.rep.ID]; {
	case p.rep.Pay == nil:
		return 0
	case prices != nil:
		return prices[p.index]
	default:
		return p.rep.Pay.Total / lightning.Msat(max(p.rep.Pay.Count, 1))
	}
}

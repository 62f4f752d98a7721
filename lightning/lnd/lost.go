package lnd

import (
	"bytes"
	"context"
	"time"

	"htlcdash/lightning"
)

// lnd writes an attempt into its database before the HTLC goes out. Killed
// between the two it calls the payment in flight for ever after, though no
// channel carries it: nothing sends it again, and its hash cannot be paid anew.
// Such a payment is lost, and its money never left.
//
// That an HTLC is in no channel proves it only after a while. A link queues
// an HTLC for up to a minute, and our own view of a channel lacks one that the
// peer has not acknowledged; but lnd drops a peer that leaves a commitment
// unanswered for a minute, and the channel is not active then.
const (
	defaultLostAfter = 2 * time.Minute
	// maxLookGap is how far apart two looks may be and still show that the
	// HTLC was absent between them.
	maxLookGap = 30 * time.Second
)

// An absence is a time during which each look at a payment in flight found no
// HTLC of it in the channels that were to carry it, all of them active.
type absence struct{ first, last time.Time }

// attempt is lnrpc.HTLCAttempt.
type attempt struct {
	Status string `json:"status"`
	Route  struct {
		Hops []struct {
			Channel string `json:"chan_id"`
		} `json:"hops"`
	} `json:"route"`
}

// lost reports whether the payment h, which lnd calls in flight with these
// attempts, was in no channel for long enough.
func (n *Node) lost(ctx context.Context, h lightning.Hash, attempts []attempt) bool {
	absent := n.absent(ctx, h, attempts)
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !absent {
		delete(n.absences, h)
		return false
	}
	a := n.absences[h]
	if now.Sub(a.last) > maxLookGap {
		a.first = now
	}
	a.last = now
	n.absences[h] = a
	return now.Sub(a.first) >= n.cfg.LostAfter
}

// absent reports whether no channel carries h although all that should are
// active. What cannot be seen is not absent.
func (n *Node) absent(ctx context.Context, h lightning.Hash, attempts []attempt) bool {
	channels, err := n.channels(ctx)
	if err != nil {
		return false
	}
	byID := make(map[string]channel, len(channels))
	for _, c := range channels {
		byID[c.ID] = c
		for _, p := range c.Pending {
			if bytes.Equal(p.Hash, h[:]) {
				return false
			}
		}
	}
	for _, a := range attempts {
		if a.Status != "IN_FLIGHT" {
			continue
		}
		if len(a.Route.Hops) == 0 || !byID[a.Route.Hops[0].Channel].Active {
			return false
		}
	}
	return true
}

package sim

import (
	"time"

	"htlcdash/lightning"
)

// Fault is what happens to one payment of a node.
type Fault struct {
	refuse, loseAnswer, stall bool
	delay                     time.Duration
}

// Faults to order by [Node.Order].
var (
	None       = Fault{}                 // this payment goes well
	Refuse     = Fault{refuse: true}     // it fails before any money moves
	LoseAnswer = Fault{loseAnswer: true} // it takes its course, but Pay says at once that the node does not answer
	Stall      = Fault{stall: true}      // it hangs before the payee until [Network.Release]
)

// Delay lets a payment begin late.
func Delay(d time.Duration) Fault { return Fault{delay: d} }

// Order gives the next payments that n begins these faults, one each, in
// order.
func (n *Node) Order(faults ...Fault) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.faults = append(n.faults, faults...)
}

func (n *Node) nextFault() (f Fault) {
	if len(n.faults) > 0 {
		f, n.faults = n.faults[0], n.faults[1:]
	}
	return f
}

// Down takes n off the network, as a crash does: calls in progress and later
// ones return [lightning.ErrUnavailable], nothing is routed over it, and what
// comes back over it waits. Its books stay.
func (n *Node) Down() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if !n.down {
		n.down = true
		close(n.gone)
	}
}

// Up brings n back with the books it had.
func (n *Node) Up() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if !n.down {
		return
	}
	n.down, n.gone = false, make(chan struct{})
	parked := n.net.parked
	n.net.parked = nil
	for _, deliver := range parked {
		deliver()
	}
}

// Release lets the stalled payment for h go on to the payee, or fails it. It
// reports whether there is one.
func (w *Network) Release(h lightning.Hash, deliver bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.stalled[h]
	if p == nil {
		return false
	}
	delete(w.stalled, h)
	if deliver {
		w.arrive(p)
	} else {
		w.fail(p, "the payment broke on its way")
	}
	return true
}

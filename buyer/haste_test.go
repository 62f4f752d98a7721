package buyer_test

import (
	"testing"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
)

// What waiting is worth comes from who asks, within bounds by the price.
func TestHasteIsBounded(t *testing.T) {
	seg := htlcdash.Segment{Seal: htlcdash.Seal{Price: 1000}}
	for _, tt := range []struct{ said, want lightning.Msat }{
		{0, 1000}, {999, 1000}, {4000, 4000}, {10_001, 10_000}, {1<<63 - 1, 10_000}, {-5, 1000},
	} {
		n := buyer.NeedOf(buyer.WaitingCosts(t.Context(), tt.said), seg, 1)
		if n.Late != tt.want || n.Worth != tt.want || n.Ceiling != 1000 {
			t.Errorf("a second is said to be worth %v, and counts as %v of %v", tt.said, n.Late, n.Worth)
		}
	}
	if n := buyer.NeedOf(t.Context(), seg, 1); n.Late != 0 || n.Worth != 0 { // the market's own measure
		t.Errorf("nobody said anything, and it counts as %v of %v", n.Late, n.Worth)
	}
}

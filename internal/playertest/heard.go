package playertest

import (
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	"htlcdash/internal/player"
	"htlcdash/lightning"
)

// Heard reads what "htlcdash play --json" says, and calls begin at each line, of
// which the first is the beginning. It returns the account, the median of what
// payments took, and by how much the first ones, which the start waits for, took
// longer.
func Heard(t testing.TB, lines io.Reader, begin func()) (r player.Result, pay, late time.Duration) {
	t.Helper()
	var pays []time.Duration
	for in := json.NewDecoder(lines); in.More(); {
		var e struct {
			Event  player.What    `json:"event"`
			Price  lightning.Msat `json:"price_msat"`
			Pay    float64        `json:"pay_ms"`
			Result *struct {
				Utility float64        `json:"utility"`
				Quality float64        `json:"quality_db"`
				Start   float64        `json:"start_ms"`
				Stall   float64        `json:"stall_ms"`
				Played  float64        `json:"played_ms"`
				Spent   lightning.Msat `json:"spent_msat"`
				Bytes   int64          `json:"bytes"`
				Wasted  int64          `json:"wasted_bytes"`
				Rungs   [][]int        `json:"rungs"`
			} `json:"result"`
		}
		if err := in.Decode(&e); err != nil {
			t.Fatal(err)
		}
		begin()
		if e.Event == player.Segment && e.Price > 0 {
			pays = append(pays, span(e.Pay))
		}
		if w := e.Result; w != nil {
			r.Utility, r.Quality, r.Spent, r.Rungs = w.Utility, w.Quality, w.Spent, w.Rungs
			r.Bytes, r.Wasted = w.Bytes, w.Wasted
			r.Start, r.Stall, r.Played = span(w.Start), span(w.Stall), span(w.Played)
		}
	}
	if len(pays) == 0 {
		t.Fatal("nothing was paid")
	}
	first := slices.Max(pays[:min(2, len(pays))])
	slices.Sort(pays)
	pay = pays[len(pays)/2]
	t.Logf("%d payments, of %v, %v and %v, the first of %v; %v spent", len(pays), pays[0], pay, pays[len(pays)-1], first, r.Spent)
	return r, pay, max(first-pay, 0)
}

func span(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

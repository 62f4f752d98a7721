package player_test

import (
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/player"
)

// A later play begins better, because it knows how fast the network was, however
// fast the clock of the first one went.
func TestTheNetworkIsRemembered(t *testing.T) {
	menu := film(40, 1)
	for _, speed := range []float64{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			play := func(m agent.Memory) player.Result {
				l := link(t, replay.Stretch{Duration: time.Minute, Rate: 40e6, Latency: 20 * time.Millisecond})
				res, err := player.Play(t.Context(), player.Config{
					Menu: menu, Stock: newShop(menu, l, agent.NoLimit, 0), Policy: agent.New(menu.Title, agent.Preferences{}), Memory: m, Speed: speed,
				})
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			first := play(agent.Memory{})
			if m := first.Memory; m.Rate < 25e6 || m.Rate > 45e6 || time.Since(m.At) > time.Minute {
				t.Errorf("at %v times the speed of life it remembers %.3g bit/s of %v, want 40 Mbit/s", speed, m.Rate, m.At)
			}
			second := play(first.Memory)
			sum := func(rungs []int) int { return rungs[0] + rungs[1] + rungs[2] }
			if a, b := first.Rungs[0][:3], second.Rungs[0][:3]; speed == 1 && sum(a) >= sum(b) {
				t.Errorf("it begins with rungs %v, knowing the network with %v", a, b)
			}
		})
	}
}

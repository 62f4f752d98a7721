package player_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/dash"
	"htlcdash/internal/due"
	"htlcdash/internal/player"
	"htlcdash/lightning"
)

// A listener hears what waiting is said to be worth.
type listener struct {
	*shop
	mu    sync.Mutex
	heard []lightning.Msat
}

func (l *listener) Open(ctx context.Context, rep *dash.Representation, index int, data []byte) ([]byte, error) {
	if second, said := due.CostsOf(ctx); said {
		l.mu.Lock()
		l.heard = append(l.heard, second)
		l.mu.Unlock()
	}
	return l.shop.Open(ctx, rep, index, data)
}

// Who sells is told what waiting is worth to the viewer: the less money there is,
// the less; and nothing, if nothing limits it.
func TestWaitingHasAPrice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		menu := film(40, 1)
		mean := func(budget lightning.Msat) (sum float64) {
			l := link(t, replay.Stretch{Duration: time.Minute, Rate: 20e6, Latency: 20 * time.Millisecond})
			stock := &listener{shop: newShop(menu, l, budget, 0)}
			if _, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: stock, Policy: agent.New(menu.Title, agent.Preferences{})}); err != nil {
				t.Fatal(err)
			}
			for _, second := range stock.heard {
				sum += float64(second) / float64(len(stock.heard))
			}
			return sum
		}
		top := lightning.Msat(40 * 3.5e6 * 2 / 8 / 100)
		poor, rich := mean(top*4/10), mean(top*7/10)
		if !(poor > 0 && poor < rich) {
			t.Errorf("a second is worth %.0f msat with little money, %.0f with more", poor, rich)
		}
		if none := mean(agent.NoLimit); none != 0 {
			t.Errorf("without a limit a second is said to be worth %.0f msat", none)
		}
	})
}

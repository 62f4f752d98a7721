//go:build itest

package itest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash/internal/title/titletest"
	"htlcdash/internal/town"
)

const (
	marketShops   = 6 // the last two are relays
	marketViewers = 12
	marketTime    = 60 * time.Second
	marketKill    = 6 * time.Second
	marketDown    = 3 * time.Second
)

// Six providers, two of them relays, sell to twelve viewers while one after the other
// is killed and started again: every key that was paid for opens its segment, nothing
// is paid for twice, and all books agree with all nodes to the msat.
func TestMarketOfManyProcesses(t *testing.T) {
	film := titletest.Make(t, titletest.Options{Segments: int(2 * marketTime / time.Second)})
	place, err := town.New(town.Config{Program: program(t), Folder: t.TempDir(), Latency: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := place.Close(); err != nil {
			t.Error(err)
		}
	}()
	var shops []*town.Shop
	for i := range marketShops {
		trade := town.Trade{Titles: film.Dir, Factor: fmt.Sprint(0.6 + 0.1*float64(i)), Meets: shops[:min(len(shops), 2)]}
		if i >= marketShops-2 {
			trade = town.Trade{Upstream: shops[:2], Mode: []string{"pass", "shelf"}[i%2], Meets: shops[:2]}
		}
		shop, err := place.Settle(fmt.Sprintf("shop%d", i), trade)
		if err == nil {
			err = shop.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		shops = append(shops, shop)
	}
	var viewers []*town.Viewer
	for i := range marketViewers {
		v, err := place.Arrive(fmt.Sprintf("viewer%02d", i), shops[i%3:i%3+2])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Play(film.ID.String()); err != nil {
			t.Fatal(err)
		}
		viewers = append(viewers, v)
	}
	kills := town.Riot{Shops: shops, Every: marketKill, Down: marketDown, Draw: rand.New(rand.NewPCG(1, 2))}
	ctx, cancel := context.WithTimeout(t.Context(), marketTime)
	defer cancel()
	killed, err := kills.Run(ctx)
	if err != nil {
		t.Error(err)
	}
	if err := place.Rest(t.Context(), viewers, film.ID.String()); err != nil {
		t.Error(err)
	}
	played := 0
	for _, v := range viewers {
		w, err := v.Viewing()
		if err != nil {
			t.Error(err)
		}
		played += w.Segments
	}
	account, err := place.Audit(t.Context(), film.Title, film.Dir)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d killed, %d segments played, %+v", killed, played, account)
	if killed == 0 || played == 0 || account.Keys == 0 || account.Resold == 0 {
		t.Error("there was no market")
	}
	if account.NotGot > 0 || account.Twice > 0 || account.Complaints > 0 {
		t.Error("money was lost, or somebody was accused of a cheat")
	}
}

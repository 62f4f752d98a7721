package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/proxy"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// grouped is 12 seconds of which a key opens 4.
func grouped(t *testing.T) *titletest.Title {
	return titletest.Make(t, titletest.Options{Segments: 12, Group: publish.Grouping{Length: 4 * time.Second}})
}

func noAhead(c *proxy.Config, _ *spender) { c.NoEarlyBuy, c.Ahead.Segments = true, -1 }

// A key is counted once, and what it opens is owned.
func TestGroupsAreCountedByKey(t *testing.T) {
	bubble(t, grouped(t), func(t *testing.T, h *house) {
		h.account.Budget = 1_000_000
		h.get("/t/film/manifest.mpd")
		synctest.Wait()
		s := h.state(t)
		want(t, "cheapest", s.Cheapest, 12*1_500)
		want(t, "dearest", s.Dearest, 12*3_500)
		get := func(path string, toEnd, unplayed, rest lightning.Msat, bought ...string) {
			t.Helper()
			want(t, path, h.get("/t/film/"+path).Code, 200)
			synctest.Wait()
			s := h.state(t)
			want(t, "bought for "+path, fmt.Sprint(h.take()), fmt.Sprint(bought))
			want(t, "to the end after "+path, s.ToEnd, toEnd)
			want(t, "unplayed after "+path, s.Unplayed, unplayed)
			want(t, "of it the rest of groups after "+path, s.Ahead, rest)
		}
		get("v0/1.m4s", 8*1_000+12*500, 3_000, 3_000, "v0/0")
		get("a0/1.m4s", 8*1_500, 3_000+1_500, 3_000+1_500, "a0/0")
		get("v0/2.m4s", 8*1_500, 2_000+1_500, 2_000+1_500)
		get("a0/4.m4s", 8*1_500, 2_000+1_000, 2_000)                     // jumped over two
		get("v1/4.m4s", 8*1_500, 2_000+1_000+9_000, 0, "v1/3")           // the last of its group
		get("v0/4.m4s", 8*1_500, 1_000+1_000+12_000, 0)                  // instead of it
		get("v0/10.m4s", 8*500, 1_000+1_000+12_000+3_000, 2_000, "v0/9") // 9 is behind
		s = h.state(t)
		want(t, "segments bought", s.Bought, 16)
		want(t, "segments not played", s.UnplayedSegments, 1+2+4+3)
		for _, p := range s.Now {
			want(t, "price of a segment of "+p.Rep, p.Price, map[string]lightning.Msat{"v0": 1_000, "a0": 500}[p.Rep])
		}
	}, noAhead)
}

// What comes after in a group is not bought ahead: it is there.
func TestAheadWithinAGroup(t *testing.T) {
	bubble(t, grouped(t), func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd")
		for i, bought := range []string{"[v0/0]", "[]", "[v0/4]", "[]", "[]", "[]", "[v0/8]"} {
			want(t, "status", h.get(fmt.Sprintf("/t/film/v0/%d.m4s", i+1)).Code, 200)
			synctest.Wait()
			want(t, fmt.Sprintf("bought for %d", i), fmt.Sprint(h.take()), bought)
		}
		want(t, "ahead", h.state(t).Ahead, 1_000+4_000) // the rest of the second group, and the third
	}, func(c *proxy.Config, _ *spender) { c.NoEarlyBuy, c.Ahead.Money = true, 4_000 })
}

// The cheapest way to the end leads from key to key: of the one rung a key
// opens six segments, of the other one.
func TestCheapestWayThroughGroups(t *testing.T) {
	title := titletest.Make(t, titletest.Options{
		Segments: 12, Group: publish.Grouping{Auto: true},
		Reps: []titletest.Rep{
			{ID: "v0", Kind: "video", Height: 240, Sizes: []int{1_000}, Price: 100},
			{ID: "v1", Kind: "video", Height: 480, Sizes: []int{600_000}, Price: 120},
		},
	})
	segs := title.Segments(t, "v0")
	from, to := segs[0].Opens()
	want(t, "segments of the first key", to-from, 6)
	from, to = title.Segments(t, "v1")[0].Opens()
	want(t, "segments of the first key above", to-from, 1)
	bubble(t, title, func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd")
		synctest.Wait()
		want(t, "all", h.state(t).ToEnd, 1_200)
		get := func(path string, toEnd lightning.Msat) {
			t.Helper()
			h.get("/t/film/" + path)
			synctest.Wait()
			want(t, "to the end after "+path, h.state(t).ToEnd, toEnd)
		}
		get("v1/2.m4s", 4*120+600) // four single ones, then a group
		get("v1/1.m4s", 4*120+600) // 2 is owned
		get("v0/5.m4s", 600)       // 6 is owned
		get("v1/8.m4s", 4*120)     // the group has begun: four single ones are cheaper
		get("v0/9.m4s", 0)
	}, noAhead)
}

// Books name one segment of each group.
func TestBooksOfGroups(t *testing.T) {
	title := grouped(t)
	books := func(_ context.Context, id htlcdash.TitleID, limit int) iter.Seq2[buyer.Purchase, error] {
		return func(yield func(buyer.Purchase, error) bool) {
			_ = yield(buyer.Purchase{Title: id, Representation: "v0", Index: 6, State: "paid"}, nil) &&
				yield(buyer.Purchase{Title: id, Representation: "a0", Index: 0, State: "paid", Lost: true}, nil)
		}
	}
	bubble(t, title, func(t *testing.T, h *house) {
		h.get("/t/film/manifest.mpd")
		synctest.Wait()
		want(t, "to the end", h.state(t).ToEnd, 8*1_000+12*500)
		var list []proxy.PurchaseReport
		check(t, json.Unmarshal(h.get("/api/ledger?title=film").Body.Bytes(), &list))
		i := slices.IndexFunc(list, func(p proxy.PurchaseReport) bool { return p.Representation == "v0" })
		want(t, "what the key opens", fmt.Sprint(list[i].Index, list[i].First, list[i].Opens), "6 4 4")
	}, func(c *proxy.Config, _ *spender) { c.NoEarlyBuy, c.Purchases = true, books })
}

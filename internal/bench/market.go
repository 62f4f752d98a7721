package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/internal/town"
	"htlcdash/lightning"
)

// The market of many processes. Of every five shops one resells what it has not got
// (pass) and one what it has bought (shelf).
const (
	marketShops   = 20
	marketViewers = 50
	marketEvery   = 10 * time.Second // one shop is killed
	marketDown    = 4 * time.Second  // until it is opened again
	marketHop     = 10 * time.Millisecond
	marketRound   = time.Minute // of playing
	marketRounds  = 5           // of a minute each
	marketKnown   = 2           // shops that a viewer knows at first
	segmentLength = 2 * time.Second
	marketGroup   = 3 * segmentLength // that one key opens
	marketFree    = time.Minute       // of playing what is free: nothing happens there
)

// markets has many viewers play a title that many shops sell, each a process of its
// own, while one shop after the other is killed and opened again; and has as many
// players play the same title from one plain server.
func markets(ctx context.Context, s *stage, r *Report) (err error) {
	r.Rounds = s.rounds(marketRounds)
	long := time.Duration(r.Rounds) * marketRound
	s.Progress("publishing a title")
	// Longer than it is played: who has played to the end does not load the market.
	count := int(long/segmentLength) + 30
	source, dir := filepath.Join(s.dir, "market.dash"), filepath.Join(s.dir, "titles", "market")
	rungs := []rung{shaped("240", 426, 240, count, 25_000), shaped("360", 640, 360, count, 50_000), shaped("480", 854, 480, count, 100_000)}
	if err := folder(source, rungs, nil); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if _, err := s.publish(ctx, source, dir, publish.Grouping{Length: marketGroup}, nil); err != nil {
		return err
	}
	film, err := title.OpenDir(dir)
	if err != nil {
		return err
	}
	paid, err := s.marketDay(ctx, r, film, dir, long)
	if err != nil {
		return err
	}
	free, err := s.freeDay(ctx, film, dir, marketFree)
	if err != nil {
		return err
	}
	r.note("the free server was played for %v, the market for %v", marketFree, long)
	for _, row := range []struct {
		what, unit string
		of         func(crowdSaw) float64
	}{
		{"segments played", "", func(c crowdSaw) float64 { return float64(c.segments) }},
		{"  in mean lines", "", crowdSaw.lines},
		{"time that pictures stood still, of all after the start", "%", crowdSaw.stallRatio},
		{"  stalls", "", func(c crowdSaw) float64 { return float64(c.stalls) }},
		{"start-up, median", "ms", func(c crowdSaw) float64 { return median(c.starts) }},
		{"  95 of 100 within", "ms", func(c crowdSaw) float64 { return quantile(c.starts, 0.95) }},
		{"viewers who saw no picture", "", func(c crowdSaw) float64 { return float64(c.none) }},
	} {
		r.add(Row{What: row.what, Unit: row.unit, Ours: row.of(paid), Baseline: row.of(free), Of: "one free server"})
	}
	return nil
}

// shaped is noise that is called a picture of this size.
func shaped(id string, width, height, count, size int) rung {
	r := noise(id, count, size)
	r.shape = fmt.Sprintf(`codecs="avc1.640015" width="%d" height="%d"`, width, height)
	return r
}

// crowdSaw is what a crowd of viewers saw, together.
type crowdSaw struct {
	segments, stalls, none int
	heights                int64
	played, stalled        time.Duration
	starts                 []float64 // ms
}

func (c crowdSaw) stallRatio() float64 {
	return 100 * c.stalled.Seconds() / max(1, (c.stalled+c.played).Seconds())
}

func (c crowdSaw) lines() float64 { return float64(c.heights) / max(1, float64(c.segments)) }

// saw sums up what viewers saw.
func saw(viewers []*town.Viewer) (c crowdSaw, err error) {
	for _, v := range viewers {
		w, err := v.Viewing()
		if err != nil {
			return c, err
		}
		c.segments, c.stalls = c.segments+w.Segments, c.stalls+w.Stalls
		c.played, c.stalled = c.played+w.Played, c.stalled+w.Stalled
		for height, n := range w.Heights {
			c.heights += int64(height) * int64(n)
		}
		if w.Start == 0 {
			c.none++
			continue
		}
		c.starts = append(c.starts, ms(w.Start))
	}
	return c, nil
}

// marketDay has viewers buy while shops are killed, and holds all books against all
// nodes.
func (s *stage) marketDay(ctx context.Context, r *Report, film *title.Title, dir string, long time.Duration) (all crowdSaw, err error) {
	place, err := town.New(town.Config{Program: s.Program, Folder: filepath.Join(s.dir, "town"), Latency: marketHop})
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	shops, err := s.openShops(ctx, place, dir)
	if err != nil {
		return all, err
	}
	var viewers []*town.Viewer
	for i := range marketViewers {
		var knows []*town.Shop
		for k := range marketKnown {
			knows = append(knows, shops[(i*marketKnown+k)%len(shops)])
		}
		v, err := place.Arrive(fmt.Sprintf("viewer%02d", i), knows, "--log-level", "warn")
		if err != nil {
			return all, err
		}
		viewers = append(viewers, v)
	}
	began := time.Now()
	cpu := selfBusy()
	s.Progress(fmt.Sprintf("%d viewers arrive", marketViewers))
	day, end := context.WithTimeout(ctx, long)
	defer end()
	come := make(chan error, 1)
	go func() { come <- arrive(day, viewers, film.ID.String()) }()
	var killed int
	riot := town.Riot{
		Shops: shops, Every: marketEvery, Down: marketDown, Draw: rand.New(rand.NewPCG(20, 50)),
		Told: func(dead *town.Shop) {
			killed++
			s.Progress(fmt.Sprintf("%v of %v: %s is killed, the %d. one", time.Since(began).Round(time.Second), long, dead.Name, killed))
		},
	}
	killed, err = riot.Run(day)
	if err := errors.Join(err, <-come); err != nil {
		return all, err
	}
	if ctx.Err() != nil {
		return all, ctx.Err()
	}
	load := load()
	cpu = selfBusy() - cpu
	s.Progress("the market closes: open payments are settled")
	if err := place.Rest(ctx, viewers, film.ID.String()); err != nil {
		return all, err
	}
	account, err := place.Audit(ctx, film, dir)
	if err != nil {
		return all, err
	}
	if all, err = saw(viewers); err != nil {
		return all, err
	}
	r.fact("shops killed and opened again", "", float64(killed))
	r.fact("keys bought", "", float64(account.Keys))
	r.fact("  segments to a key", "", float64(marketGroup/segmentLength))
	r.fact("  a key", "sat", float64(account.Spent)/float64(lightning.Sat)/max(1, float64(account.Keys)))
	r.fact("  a segment played", "sat", float64(account.Spent)/float64(lightning.Sat)/max(1, float64(all.segments)))
	r.fact("  payments of relays upstream", "", float64(account.Payments-account.Keys))
	r.fact("  payments that took 5 s or more", "", float64(account.Late))
	r.atMost("paid and not got", "", float64(account.NotGot), 0)
	r.atMost("paid twice", "", float64(account.Twice), 0)
	r.atMost("viewers' and relays' spending, less shops' income", "msat", float64(account.Spent+account.Resold-account.Income), 0)
	var selling, watching time.Duration
	for _, shop := range shops {
		shop.Stop()
		selling += shop.Work()
	}
	for _, v := range viewers {
		watching += v.Work()
	}
	r.fact("processors: shops", "cores", selling.Seconds()/long.Seconds())
	r.fact("  viewers", "cores", watching.Seconds()/long.Seconds())
	r.fact("  nodes", "cores", cpu.Seconds()/long.Seconds())
	r.note("%d shops, %d of them relays, and %d viewers, each a process; a payment takes %v a hop; a shop is killed every %v, for %v and its start; load %.0f at the end",
		marketShops, marketShops*2/5, marketViewers, marketHop, marketEvery, marketDown, load)
	return all, nil
}

// openShops opens providers at various prices, and relays.
func (s *stage) openShops(ctx context.Context, place *town.Town, dir string) (shops []*town.Shop, err error) {
	var origins []*town.Shop
	for i := range marketShops {
		trade := town.Trade{Titles: dir, Factor: fmt.Sprintf("%.2f", 0.6+0.4*float64(i)/marketShops), Meets: shops[:min(2, len(shops))]}
		switch i % 5 {
		case 3, 4:
			n := len(origins)
			trade.Titles, trade.Factor = "", ""
			trade.Upstream, trade.Mode = []*town.Shop{origins[i%n], origins[(i+1)%n]}, []string{"pass", "shelf"}[i%5-3]
		}
		trade.More = []string{"--log-level", "warn"}
		shop, err := place.Settle(fmt.Sprintf("shop%02d", i), trade)
		if err != nil {
			return nil, err
		}
		s.Progress(fmt.Sprintf("%s of %d opens", shop.Name, marketShops))
		if err := shop.Open(ctx); err != nil {
			return nil, err
		}
		if trade.Upstream == nil {
			origins = append(origins, shop)
		}
		shops = append(shops, shop)
	}
	return shops, nil
}

// arrive has viewers begin to play, one after the other.
func arrive(ctx context.Context, viewers []*town.Viewer, what string) error {
	for _, v := range viewers {
		if _, err := v.Play(what, "--anyway"); err != nil {
			return err
		}
		select {
		case <-time.After(arriving):
		case <-ctx.Done(): // the others come too late
			return nil
		}
	}
	return nil
}

// arriving is how long after one viewer the next begins.
const arriving = time.Second

// freeDay has as many players play the same title, open, from one server of files.
func (s *stage) freeDay(ctx context.Context, film *title.Title, dir string, long time.Duration) (c crowdSaw, err error) {
	s.Progress("the same, of one free server")
	plain := filepath.Join(s.dir, "market.plain")
	keys, err := title.LoadKeys(publish.KeysFile(dir))
	if err != nil {
		return c, err
	}
	if err := laidOpen(ctx, film, keys, dir, plain); err != nil {
		return c, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return c, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(plain))}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // until it is closed
	defer serving.Wait()
	defer server.Close()
	place, err := town.New(town.Config{Program: s.Program, Folder: filepath.Join(s.dir, "free")})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	var viewers []*town.Viewer
	for i := range marketViewers {
		v, err := place.Arrive(fmt.Sprintf("viewer%02d", i), nil)
		if err != nil {
			return c, err
		}
		viewers = append(viewers, v)
	}
	day, end := context.WithTimeout(ctx, long)
	defer end()
	for _, v := range viewers {
		if _, err := v.PlayFree("http://" + l.Addr().String() + "/" + title.MPDFile); err != nil {
			return c, err
		}
		select {
		case <-time.After(arriving / 10):
		case <-day.Done():
		}
	}
	<-day.Done()
	if ctx.Err() != nil {
		return c, ctx.Err()
	}
	return saw(viewers)
}

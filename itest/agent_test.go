//go:build itest

package itest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"htlcdash/lightning"
)

// TestAThirdOfThePrice plays the film on a third of what it costs at its best,
// to the last frame: in our page, which follows the agent, and in players that
// know nothing of prices.
func TestAThirdOfThePrice(t *testing.T) {
	s := newStage(t, publishedFilm(t))
	provider := s.serve(t, freeAddress(t))
	open := func(t *testing.T, name string) (viewer *process, budget lightning.Msat) {
		free := s.proxy(t, name+"-asks", provider, nil)
		film := titleOf(t, free)
		budget = film.Dearest / 3
		if film.Cheapest > budget {
			t.Fatalf("a third of %v does not carry the lowest quality, %v", film.Dearest, film.Cheapest)
		}
		free.stop()
		return s.proxy(t, name, provider, nil, "--budget-title", fmt.Sprintf("%d msat", budget)), budget
	}
	whole := func(t *testing.T, name string, viewer *process, budget lightning.Msat) {
		t.Helper()
		bought, opens := purchases(t, s.books(name)), groups(t, s.titles)
		if gaps := missing(bought, opens, false); gaps != nil {
			t.Errorf("no picture of segments %v", gaps)
		}
		if gaps := missing(bought, opens, true); gaps != nil {
			t.Errorf("no sound of segments %v", gaps)
		}
		cost := spent(t, bought)
		if cost > budget {
			t.Errorf("spent %v of %v", cost, budget)
		}
		t.Logf("%s: spent %v of %v", name, cost, budget)
		if log := readFile(t, viewer.log); refusal.Match(log) {
			t.Errorf("the player was refused something: %s", refusal.Find(log))
		}
	}
	t.Run("chromium", func(t *testing.T) {
		viewer, budget := open(t, "thrifty")
		w := watch(t, viewer.url+"/", "--seconds", "120")
		w.whole(t)
		t.Logf("mean height %v, %v ms of stalls, start-up %v ms", w.MeanHeight, w.StallMs, w.StartupMs)
		whole(t, "thrifty", viewer, budget)
	})
	for _, player := range []struct {
		name string
		args func(url string) []string
	}{
		{"ffmpeg", func(url string) []string {
			return []string{"-v", "error", "-nostdin", "-i", url, "-map", "0:v:0", "-map", "0:a:0", "-f", "framecrc", "-"}
		}},
		{"mpv", func(url string) []string {
			return []string{"--no-config", "--ytdl=no", "--vo=null", "--ao=null", "--untimed", "--really-quiet", url}
		}},
	} {
		t.Run(player.name, func(t *testing.T) {
			viewer, budget := open(t, "thrifty-"+player.name)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, player.name, player.args(viewer.url+"/t/"+filmName+"/manifest.mpd")...).Output()
			if err != nil {
				t.Errorf("%s: %v", player.name, err)
			}
			if n := bytes.Count(out, []byte("\n0,")); player.name == "ffmpeg" && n != filmFrames {
				t.Errorf("%d frames came out of %d", n, filmFrames)
			}
			whole(t, "thrifty-"+player.name, viewer, budget)
		})
	}
}

type titleReport struct {
	Cheapest lightning.Msat `json:"cheapest_msat"`
	Dearest  lightning.Msat `json:"dearest_msat"`
}

// titleOf is what a proxy says of its only title.
func titleOf(t *testing.T, viewer *process) titleReport {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		r, err := http.Get(viewer.url + "/api/titles")
		if err != nil {
			t.Fatal(err)
		}
		var list []titleReport
		err = json.NewDecoder(r.Body).Decode(&list)
		r.Body.Close()
		if err == nil && len(list) == 1 {
			return list[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("the proxy has %d titles, %v", len(list), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

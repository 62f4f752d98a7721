//go:build itest

package itest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"htlcdash/lightning"
)

// stockPage is dash.js on a page of somebody else. It keeps a few seconds in
// hand, so that some of a short film is left when the money gets short.
const stockPage = `<!doctype html><video muted autoplay></video><script src="/dash.js"></script><script>
const player = dashjs.MediaPlayer().create();
player.updateSettings({ streaming: { buffer: { bufferTimeDefault: 4, bufferTimeAtTopQuality: 4, bufferTimeAtTopQualityLongForm: 4 } } });
player.initialize(document.querySelector("video"), %q, true);
</script>`

// TestABudgetLoweredInMidFilm plays the film in stock dash.js and lowers its
// budget on the way, so that the rung that the player keeps asking for is not
// to be had any more: the picture gets worse, and goes on to the last frame.
func TestABudgetLoweredInMidFilm(t *testing.T) {
	s := newStage(t, publishedFilm(t))
	provider := s.serve(t, freeAddress(t))
	var manifest string
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dash.js":
			http.ServeFile(w, r, "../internal/web/static/lib/dash.all.min.js")
		case "/":
			fmt.Fprintf(w, stockPage, manifest)
		default:
			http.NotFound(w, r)
		}
	}))
	defer page.Close()
	viewer := s.proxy(t, "lowered", provider, nil, "--budget-title", "1000 sat", "--origins", page.URL)
	manifest = viewer.url + "/t/" + filmName + "/manifest.mpd"

	lowered := make(chan lightning.Msat, 1)
	go func() { lowered <- lowerBudget(t, viewer, 8*time.Second) }()
	w := watch(t, page.URL+"/", "--seconds", "90")
	w.whole(t)
	budget := <-lowered
	bought, opens := purchases(t, s.books("lowered")), groups(t, s.titles)
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
	var keys []string // in the order of the purchases
	for _, p := range bought {
		keys = append(keys, fmt.Sprintf("%s/%d opens %v for %v at %s", p.Representation, p.Index, opens[p.KeyHash], p.Amount, p.Created.Format("05.000")))
	}
	t.Logf("spent %v of %v, mean height %v of %d, %v ms of stalls:\n%v", cost, budget, w.MeanHeight, w.MaxHeight, w.StallMs, strings.Join(keys, "\n"))
	if w.MeanHeight > 0.9*float64(w.MaxHeight) {
		t.Error("the picture did not get worse: the budget was not in the way")
	}
}

// lowerBudget waits until a player has asked for so much of the film, and leaves
// a little more than the cheapest way to the end costs.
func lowerBudget(t *testing.T, viewer *process, at time.Duration) (budget lightning.Msat) {
	type state struct {
		Title struct {
			Position int64          `json:"position_ms"`
			Spent    lightning.Msat `json:"spent_msat"`
			Reserved lightning.Msat `json:"reserved_msat"`
			ToEnd    lightning.Msat `json:"to_end_msat"`
			Enough   bool           `json:"enough"`
		} `json:"title"`
	}
	ask := func(method, path, body string) (s state) {
		q, err := http.NewRequestWithContext(t.Context(), method, viewer.url+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return s
		}
		q.Header.Set("X-Htlcdash", "1")
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			return s
		}
		defer r.Body.Close()
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return s
	}
	now := ask(http.MethodGet, "/api/state?title="+filmName, "")
	for now.Title.Position < at.Milliseconds() && t.Context().Err() == nil {
		time.Sleep(50 * time.Millisecond)
		now = ask(http.MethodGet, "/api/state?title="+filmName, "")
	}
	for now.Title.Enough = false; !now.Title.Enough && t.Context().Err() == nil; { // more may be bought meanwhile
		budget = now.Title.Spent + now.Title.Reserved + now.Title.ToEnd*5/4
		now = ask(http.MethodPost, "/api/budget", fmt.Sprintf(`{"title":%q,"msat":%d}`, filmName, budget))
		t.Logf("budget %v: %+v", budget, now.Title)
	}
	return budget
}

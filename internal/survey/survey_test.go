package survey

import (
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/directory"
)

// What makes no sense is not listed, what is listed twice counts once, and prices are
// those that it says itself, or that the same key announced.
func TestReport(t *testing.T) {
	one, two := htlcdash.TitleID{1}, htlcdash.TitleID{2}
	ends := time.Unix(1_800_000_000, 0)
	all := []seen{
		{
			Provider: Provider{Address: "dear", Latency: time.Millisecond},
			titles: []buyer.TitleInfo{
				{ID: one, Name: "bunny", Title: "Big \x00 Bunny", Min: 1000, Max: 3000, DurationMS: -5},
				{ID: one, Name: "again", Max: 1},
				{ID: two, Name: "two", Min: -1, Max: 5},
				{ID: two, Name: "two", Min: 5, Max: 4},
				{ID: two, Name: "two", Max: maxTotal + 1},
			},
		},
		{
			Provider: Provider{Address: "cheap", Latency: time.Second},
			carriage: buyer.CarriageInfo{Price: 7, Step: 1 << 20},
			titles:   []buyer.TitleInfo{{ID: one, Name: "other", Title: "Other words", Min: 1000, Max: 3000, MinBytes: 10 << 20, MaxBytes: 20<<20 + 1}, {ID: two, Name: "two", Max: 5}},
			claims:   map[htlcdash.TitleID]directory.Announcement{one: {Factor: directory.PPM / 4, PerMiB: 9, Expires: ends}},
		},
		{Provider: Provider{Address: "dead", Error: "it does not answer"}},
		{
			Provider: Provider{Address: "carrier"}, carriage: buyer.CarriageInfo{Price: 1, Step: 1 << 20},
			titles: []buyer.TitleInfo{
				{ID: one, Name: "bunny", Min: 1000, Max: 3000, BytesOnly: true, MinBytes: 1 << 20, MaxBytes: 2 << 20},
				{ID: two, Name: "two", Max: 5, MinBytes: -1},
				{ID: two, Name: "two", Max: 5, MaxBytes: maxBytes + 1},
				{ID: two, Name: "two", Max: 5, Asks: &buyer.PriceRange{Min: 2, Max: 1}},
			},
		},
		{
			Provider: Provider{Address: "dearer in all"}, carriage: buyer.CarriageInfo{Price: 1000, Step: 1 << 20},
			titles: []buyer.TitleInfo{{ID: one, Name: "bunny", Min: 1000, Max: 3000, Asks: &buyer.PriceRange{Min: 100, Max: 300}, MinBytes: 10 << 20, MaxBytes: 20 << 20}},
		},
	}
	r := report(all, Wanted{})
	if len(r.Titles) != 2 || len(r.Providers) != 5 || r.More {
		t.Fatalf("%+v", r)
	}
	got := r.Titles[0]
	if got.ID != one || got.Title != "Big   Bunny" || got.Name != "bunny" || got.Duration != 0 || len(got.Offers) != 4 {
		t.Errorf("%+v", got)
	}
	for i, want := range []Offer{ // cheap keys with dear bytes come after dear keys with free ones
		{Provider: 1, Min: 250, Max: 750, Priced: true, PerMiB: 7, WholeMin: 320, WholeMax: 891, Expires: ends},
		{Provider: 0, Min: 1000, Max: 3000, WholeMin: 1000, WholeMax: 3000},
		{Provider: 4, Min: 100, Max: 300, Priced: true, PerMiB: 1000, WholeMin: 10_100, WholeMax: 20_300},
		{Provider: 3, Priced: true, BytesOnly: true, PerMiB: 1, WholeMin: 1, WholeMax: 2},
	} {
		if got.Offers[i] != want {
			t.Errorf("%+v, want %+v", got.Offers[i], want)
		}
	}
	if r := report(all, Wanted{Text: "BUNNY"}); len(r.Titles) != 1 || len(r.Titles[0].Offers) != 3 {
		t.Errorf("by its words: %+v", r.Titles)
	}
	if r := report(all, Wanted{Title: &two}); len(r.Titles) != 1 || r.Titles[0].ID != two {
		t.Errorf("by its id: %+v", r.Titles)
	}
	var many []buyer.TitleInfo
	for i := range MaxTitles + 1 {
		many = append(many, buyer.TitleInfo{ID: htlcdash.TitleID{byte(i), byte(i >> 8), 1}, Name: "n"})
	}
	if r := report([]seen{{titles: many}}, Wanted{}); len(r.Titles) != MaxTitles || !r.More {
		t.Errorf("%d titles, more: %v", len(r.Titles), r.More)
	}
}

// Strangers of one network get a few places, and none that the viewer named.
func TestCandidates(t *testing.T) {
	var claims []directory.Announcement
	for i := range 200 {
		address := "http://192.0.2." + string(rune('0'+i%10)) + ":80" + string(rune('0'+i/100))
		claims = append(claims, directory.Announcement{Title: htlcdash.TitleID{byte(i)}, Name: "x", Addresses: []string{address}})
	}
	claims = append(claims, directory.Announcement{Name: "x", Addresses: []string{"https://far.example", "https://films.example"}})
	c := Config{Providers: []string{"https://films.example/", "https://films.example"}}
	all := c.candidates(claims, Wanted{})
	if len(all) != 1+perGroup || !all[0].configured || len(all[0].claims) != 1 {
		t.Errorf("%d candidates, the first %+v", len(all), all[0])
	}
}

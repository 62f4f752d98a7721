package bench_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"htlcdash/internal/bench"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		name  string
		of    []float64
		share float64
		want  float64
	}{
		{"nothing", nil, 0.95, 0},
		{"one", []float64{7}, 0.95, 7},
		{"of twenty, unordered, all but one", []float64{20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, 0.95, 19},
		{"of three the last", []float64{3, 1, 2}, 0.95, 3},
		{"none", []float64{3, 1, 2}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bench.Quantile(c.of, c.share); got != c.want {
				t.Errorf("%v of %v is %v, want %v", c.share, c.of, got, c.want)
			}
		})
	}
}

// What a purchase adds is compared with a client that did as much ahead.
func TestPurchaseRows(t *testing.T) {
	r := &bench.Report{Samples: map[string][]float64{
		"100 kB, prepaid, nothing ahead, ms": {100}, "100 kB, prepaid, offer ahead, ms": {80},
		"100 kB, vole-80, nothing ahead, ms": {115}, "100 kB, vole-80, offer ahead, ms": {90}, "100 kB, vole-80, offer and proof ahead, ms": {82},
		"100 kB, vole-128, offer ahead, ms": {93},
		"100 kB, vole-80, proof %":          {31},
		"100 kB, vole-80, provider CPU ms":  {9, 11},
		"100 kB, prepaid, provider CPU ms":  {5},
		"100 kB, vole-80, added %":          {48},
		"100 kB, prepaid, added %":          {4},
	}}
	bench.PurchaseRows(r)
	want := map[string]float64{
		"100 kB, vole-80, nothing ahead: added": 15, "100 kB, vole-80, offer ahead: added": 10,
		"100 kB, vole-80, offer and proof ahead: added": 2, "100 kB, vole-128, offer ahead: added": 13,
		"  proof, of the segment's bytes": 31, "  CPU of the provider": 10, "  all added bytes": 48,
	}
	for _, row := range r.Rows {
		if v, ok := want[row.What]; ok {
			if row.Ours != v {
				t.Errorf("%s: %v, want %v", row.What, row.Ours, v)
			}
			delete(want, row.What) // the other lengths have no samples
		}
	}
	if len(want) > 0 {
		t.Errorf("no rows for %v", want)
	}
}

func TestWireCounts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a" {
			w.Write(make([]byte, 1000))
		}
	}))
	defer s.Close()
	w := bench.NewWire()
	for _, path := range []string{"/a", "/b", "/a"} {
		if _, err := w.Get(s.URL + path); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := w.Body("/a"), w.Body("/b"); a != 2000 || b != 0 {
		t.Errorf("bodies of %d and %d bytes, want 2000 and 0", a, b)
	}
	if n := w.All(); n < 2200 || n > 4000 {
		t.Errorf("%d bytes in all for bodies of 2000", n)
	}
}

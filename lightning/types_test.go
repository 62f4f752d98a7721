package lightning_test

import (
	"encoding/json"
	"testing"

	"htlcdash/lightning"
)

func TestMsatAsJSON(t *testing.T) {
	for _, tc := range []struct {
		text string
		want lightning.Msat
		ok   bool
	}{
		{"1500", 1500, true},
		{"0", 0, true},
		{`"21 sat"`, 21_000, true},
		{`"1500"`, 0, false}, // no unit
		{"1.5", 0, false},
		{"99999999999999999999", 0, false},
	} {
		var m lightning.Msat
		if err := json.Unmarshal([]byte(tc.text), &m); (err == nil) != tc.ok || m != tc.want {
			t.Errorf("%s: %v, %v", tc.text, m, err)
		}
	}
	if b, err := json.Marshal(lightning.Msat(1500)); err != nil || string(b) != "1500" {
		t.Errorf("1500 msat are written as %s, %v", b, err)
	}
}

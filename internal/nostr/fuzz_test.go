package nostr_test

import (
	"encoding/json"
	"errors"
	"testing"

	"htlcdash"
	"htlcdash/internal/nostr"
)

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(foreign))
	f.Add([]byte(`{"tags":[["d"]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := nostr.ParseEvent(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) && !errors.Is(err, htlcdash.ErrSignature) {
				t.Error(err)
			}
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if e2, err := nostr.ParseEvent(again); len(again) <= nostr.MaxEvent && (err != nil || e2.ID != e.ID) {
			t.Errorf("%s is written as %s: %v", b, again, err)
		}
	})
}

// FuzzSign lets any text be signed that the format takes: the event must be read
// again as it was written.
func FuzzSign(f *testing.F) {
	k := key(f, 1)
	f.Add("d", "value", "content")
	f.Add("\b\f", "é\u2028<", "\\\"\n\r\t\x7f")
	f.Fuzz(func(t *testing.T, name, value, content string) {
		e, err := nostr.Sign(nostr.Event{CreatedAt: 1, Kind: 30000, Tags: []nostr.Tag{{name, value}}, Content: content}, k)
		if err != nil {
			return
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := nostr.ParseEvent(b); len(b) <= nostr.MaxEvent && (err != nil || got.Content != content) {
			t.Errorf("%s: %v", b, err)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"ids":[],"kinds":[1],"#d":["x"],"since":1,"until":0,"limit":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, again nostr.Filter
		if err := got.UnmarshalJSON(b); err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Error(err)
			}
			return
		}
		out, err := got.MarshalJSON()
		if err == nil {
			err = again.UnmarshalJSON(out)
		}
		if err != nil {
			t.Errorf("%s is written as %s: %v", b, out, err)
		}
		e := nostr.Event{CreatedAt: 1, Kind: 1, Tags: []nostr.Tag{{"d", "x"}}}
		if got.Matches(e) != again.Matches(e) {
			t.Errorf("%s is written as %s, which matches otherwise", b, out)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{
		`["EVENT",` + foreign + `]`, `["EVENT","s",` + foreign + `]`, `["REQ","s",{"kinds":[1]},{}]`, `["CLOSE","s"]`,
		`["OK","b96b4bd164bb1a2b171de0b40176372741a04ad76a70f7972100f598d50a00c1",true,""]`, `["EOSE","s"]`, `["CLOSED","s","why"]`,
		`["NOTICE","text"]`, `["AUTH","challenge"]`, `[]`, `["REQ"]`, `["OK",1,2]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := nostr.ParseMessage(b); err != nil && !errors.Is(err, htlcdash.ErrFormat) {
			t.Error(err)
		}
	})
}

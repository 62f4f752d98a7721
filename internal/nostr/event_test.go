package nostr_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/nostr"
)

// foreign was signed by nostr-tools 2.25.2, with the secret key 3.
const foreign = `{"kind":38402,"created_at":1800000000,"tags":[["d",""],["x","a<b>&\"\\/","é\u2028🎬\u007f"]],` +
	`"content":"line\nquote \" back \\ tab\t cr\r bs\b ff\f <&> é \u2029 😀 end",` +
	`"pubkey":"f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",` +
	`"id":"b96b4bd164bb1a2b171de0b40176372741a04ad76a70f7972100f598d50a00c1",` +
	`"sig":"147ee32954224b9ea840cb3666b3ab67ea6ec2ae84b0338ca5cc5d736fa85ffe4c3885be53782fbad1d2597fd9837b65b28cc7acd1c29199da04e3853e9ddf8f"}`

func key(t testing.TB, n byte) htlcdash.ProviderKey {
	t.Helper()
	k, err := htlcdash.NewProviderKey([32]byte{30: n, 31: 3})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, k htlcdash.ProviderKey, e nostr.Event) nostr.Event {
	t.Helper()
	e, err := nostr.Sign(e, k)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestForeignEvent(t *testing.T) {
	e, err := nostr.ParseEvent([]byte(foreign))
	if err != nil {
		t.Fatal(err)
	}
	ours := sign(t, key(t, 0), nostr.Event{CreatedAt: e.CreatedAt, Kind: e.Kind, Tags: e.Tags, Content: e.Content})
	if ours.ID != e.ID || ours.PubKey != e.PubKey {
		t.Errorf("signed here it is %s by %s, there %s by %s", ours.ID, ours.PubKey, e.ID, e.PubKey)
	}
	b, err := json.Marshal(ours)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := nostr.ParseEvent(b); err != nil || again.ID != e.ID {
		t.Errorf("written and read: %v", err)
	}
}

func TestParseEventRefuses(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(foreign, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(foreign, old, new, 1)
	}
	many := `["x"],`
	for name, c := range map[string]struct {
		event string
		why   error
	}{
		"content changed":     {edit("line", "lime"), htlcdash.ErrSignature},
		"time changed":        {edit("1800000000", "1800000001"), htlcdash.ErrSignature},
		"signature changed":   {edit("147ee329", "147ee328"), htlcdash.ErrSignature},
		"id changed":          {edit(`"b96b`, `"b96c`), htlcdash.ErrSignature},
		"another author":      {edit("f9308a", "f9308b"), htlcdash.ErrSignature},
		"upper case":          {edit("f9308a", "F9308A"), htlcdash.ErrFormat},
		"a fraction":          {edit("1800000000", "1800000000.5"), htlcdash.ErrFormat},
		"before all time":     {edit("1800000000", "-1"), htlcdash.ErrFormat},
		"a kind too high":     {edit("38402", "65536"), htlcdash.ErrFormat},
		"no tags":             {edit(`"tags"`, `"stag"`), htlcdash.ErrFormat},
		"an empty tag":        {edit(`["d",""]`, `[]`), htlcdash.ErrFormat},
		"a tag of numbers":    {edit(`["d",""]`, `["d",1]`), htlcdash.ErrFormat},
		"too many tags":       {edit(`["d",""]`, strings.Repeat(many, nostr.MaxTags)+`["d",""]`), htlcdash.ErrFormat},
		"too many values":     {edit(`["d",""]`, `["d"`+strings.Repeat(`,""`, nostr.MaxValues)+`]`), htlcdash.ErrFormat},
		"control characters":  {edit("line", `\u0001`), htlcdash.ErrFormat},
		"not UTF-8":           {edit("line", "\xff"), htlcdash.ErrFormat},
		"more behind":         {foreign + "{}", htlcdash.ErrFormat},
		"too long":            {edit("line", strings.Repeat("x", nostr.MaxEvent)), htlcdash.ErrFormat},
		"nothing":             {"", htlcdash.ErrFormat},
		"half a surrogate":    {edit("line", `\ud800`), htlcdash.ErrSignature},
		"a huge tag":          {edit(`["d",""]`, `["d","`+strings.Repeat("y", nostr.MaxEvent)+`"]`), htlcdash.ErrFormat},
		"a very deep content": {edit(`["d",""]`, strings.Repeat("[", 4000)), htlcdash.ErrFormat},
	} {
		if _, err := nostr.ParseEvent([]byte(c.event)); !errors.Is(err, c.why) {
			t.Errorf("%s: %v, want %v", name, err, c.why)
		}
	}
}

func TestSignEventSignsOnlyEvents(t *testing.T) {
	k := key(t, 1)
	for _, b := range []string{"", "[0,", `[0,"` + key(t, 2).ID().String() + `",1,1,[],""]`, `[1,"` + k.ID().String() + `",1,1,[],""]`} {
		if _, _, err := k.SignEvent([]byte(b)); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for value, want := range map[string]bool{"1800000001": false, "1800000000": true, "1799999999": true, "": true, "-5": true, "soon": true, "99999999999999999999": true} {
		if got := (nostr.Event{Tags: []nostr.Tag{{"expiration", value}}}).Expired(now); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if (nostr.Event{Tags: []nostr.Tag{{"expiration"}}}).Expired(now) {
		t.Error("without a date it ends")
	}
}

func TestNewerIsAnOrder(t *testing.T) {
	a := nostr.Event{ID: nostr.ID{1}, CreatedAt: 5}
	b := nostr.Event{ID: nostr.ID{2}, CreatedAt: 5}
	c := nostr.Event{ID: nostr.ID{3}, CreatedAt: 6}
	if !a.Newer(b) || b.Newer(a) || !c.Newer(a) || a.Newer(c) || a.Newer(a) {
		t.Error("NIP-01: the later one, and of two from one second that with the lower id")
	}
}

func TestFilter(t *testing.T) {
	e := sign(t, key(t, 1), nostr.Event{CreatedAt: 100, Kind: 30001, Tags: []nostr.Tag{{"d", "a"}, {"t", "x", "z"}, {"t", "y"}, {"u"}}})
	id, author := e.ID.String(), e.PubKey.String()
	other := strings.Repeat("0", 64)
	for f, want := range map[string]bool{
		`{}`: true, `{"limit":0}`: true, `{"search":"x"}`: true,
		`{"ids":["` + id + `"]}`: true, `{"ids":["` + other + `"]}`: false, `{"ids":[]}`: false,
		`{"authors":["` + other + `","` + author + `"]}`: true, `{"authors":["` + other + `"]}`: false,
		`{"kinds":[1,30001]}`: true, `{"kinds":[1]}`: false,
		`{"#d":["a"]}`: true, `{"#t":["y"]}`: true, `{"#t":["z"]}`: false, `{"#u":[""]}`: false, `{"#t":["x"],"#d":["b"]}`: false,
		`{"since":100}`: true, `{"since":101}`: false, `{"until":100}`: true, `{"until":99}`: false, `{"until":0}`: false,
	} {
		var got nostr.Filter
		if err := got.UnmarshalJSON([]byte(f)); err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if got.Matches(e) != want {
			t.Errorf("%s: %v", f, !want)
		}
		b, err := got.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again nostr.Filter
		if err := again.UnmarshalJSON(b); err != nil || again.Matches(e) != want || again.Limit != got.Limit {
			t.Errorf("%s is written as %s, %v", f, b, err)
		}
	}
	long := `{"kinds":[` + strings.Repeat("1,", nostr.MaxListed) + `1]}`
	for _, f := range []string{`[]`, `null`, `{"ids":"x"}`, `{"ids":["ab"]}`, `{"ids":null}`, `{"since":1.5}`, `{"kinds":["1"]}`, `{"#d":[1]}`, long} {
		if err := new(nostr.Filter).UnmarshalJSON([]byte(f)); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%.40s: %v", f, err)
		}
	}
}

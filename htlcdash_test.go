package htlcdash_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A secret in the tests, and how it would look if it leaked.
var (
	secret = [32]byte{0xde, 0xad, 0xbe, 0xef, 31: 0x77}
	leaks  = []string{"deadbeef", "DEADBEEF", "222 173 190 239", "0xde, 0xad", "3q2+7w"}
)

func TestSecretsNeverPrint(t *testing.T) {
	publisher, err := htlcdash.NewPublisherKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"key":           htlcdash.NewKey(secret),
		"salt":          htlcdash.Salt(secret),
		"publisher key": publisher,
	}
	for name, v := range values {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		out := log.String() + fmt.Sprintf("%v %+v %s", v, v, v)
		for _, leak := range leaks {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints itself: %s", name, out)
			}
		}
	}
	// fmt does not call String on unexported fields.
	type hidden struct {
		key      htlcdash.Key
		preimage lightning.Preimage
		secret   exchange.Secret
	}
	held := hidden{htlcdash.NewKey(secret), lightning.NewPreimage(secret), exchange.NewSecret(secret)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		out := fmt.Sprintf(verb, held) + fmt.Sprintf(verb, &held) + fmt.Sprintf(verb, held.key)
		for _, leak := range leaks {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints a secret: %s", verb, out)
			}
		}
	}
}

func TestSaltHidesAndGivesBackTheKey(t *testing.T) {
	key, salt := htlcdash.NewKey(secret), htlcdash.Salt{1, 2, 3}
	p := salt.Preimage(key)
	if p.Reveal() == key.Reveal() {
		t.Error("the preimage is the key itself")
	}
	if got := salt.Key(p); got.Reveal() != key.Reveal() {
		t.Error("the salt does not give the key back")
	}
}

func TestZeroKeyOpensNothing(t *testing.T) {
	if (htlcdash.Key{}).Opens(htlcdash.Seal{}) {
		t.Error("no key opens the zero seal")
	}
	if !(htlcdash.Key{}).IsZero() || htlcdash.NewKey([32]byte{}).IsZero() {
		t.Error("IsZero tells a missing key from a key of zeros wrongly")
	}
}

func TestNamesRoundTripAsText(t *testing.T) {
	type names struct {
		Root      htlcdash.Root
		Title     htlcdash.TitleID
		Publisher htlcdash.PublisherID
	}
	want := names{htlcdash.Root{1}, htlcdash.TitleID{2}, htlcdash.PublisherID{3}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got names
	if err := json.Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("%s became %+v, %v", b, got, err)
	}
}

func TestParseNamesRefuses(t *testing.T) {
	parsers := map[string]func(string) error{
		"root":      func(s string) error { _, err := htlcdash.ParseRoot(s); return err },
		"title":     func(s string) error { _, err := htlcdash.ParseTitleID(s); return err },
		"publisher": func(s string) error { _, err := htlcdash.ParsePublisherID(s); return err },
	}
	inputs := map[string]string{
		"empty":     "",
		"short":     strings.Repeat("0", 63),
		"long":      strings.Repeat("0", 65),
		"not hex":   strings.Repeat("0", 63) + "g",
		"0x before": "0x" + strings.Repeat("0", 62),
		"blank":     strings.Repeat("0", 63) + " ",
	}
	for what, parse := range parsers {
		for name, in := range inputs {
			if err := parse(in); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%s, %s: %v, want ErrFormat", what, name, err)
			}
		}
	}
}

package directory_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/nostr"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../spec/vectors/directory.json"

type eventVector struct {
	What       string      `json:"what"`
	Serialised string      `json:"serialised"` // whose SHA-256 is the id
	Event      nostr.Event `json:"event"`
}

// TestVectors holds what the code says against spec/vectors/directory.json.
func TestVectors(t *testing.T) {
	secret := [32]byte{31: 3}
	key, err := htlcdash.NewProviderKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	v := struct {
		Spec   string        `json:"spec"`
		Secret string        `json:"provider_key_secret"`
		Events []eventVector `json:"events"`
	}{Spec: "spec/13-directory.md", Secret: hex.EncodeToString(secret[:])}
	odd := at(offer(film, "bunny"), made.Add(time.Second), time.Hour, "https://a.example", "http://b.example:8402/films")
	odd.Label = "é \"quoted\" back\\slash <&> \u2028 🎬"
	for _, c := range []struct {
		what string
		a    directory.Announcement
	}{
		{"a title on sale", at(offer(film, "bunny"), made, time.Hour, "https://a.example")},
		{"characters that are written in several ways, and all lists", odd},
		{"the title is sold no more", at(directory.Announcement{Title: film}, made.Add(2*time.Second), time.Hour)},
	} {
		e, err := c.a.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		v.Events = append(v.Events, eventVector{c.what, string(e.Serialise()), e})
	}
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the code does: look why, then run go test ./internal/directory -update", vectorFile)
	}
}

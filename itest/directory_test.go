//go:build itest

package itest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/nostr"
)

// announcer is a provider as far as the directory sees one.
type announcer struct {
	key  htlcdash.ProviderKey
	url  string
	host *directory.Host
}

func newAnnouncer(t *testing.T, n byte, peers ...string) *announcer {
	t.Helper()
	key, err := htlcdash.NewProviderKey([32]byte{31: n})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	a := &announcer{key: key, url: s.URL}
	a.host, err = directory.NewHost(directory.HostConfig{
		Key: key, Addresses: []string{s.URL}, Peers: peers, KeyAt: keyAt, Local: true, Name: "provider", Pause: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/v1/provider", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, `{"key":%q}`, key.ID()) })
	mux.Handle("/", a.host)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { a.host.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
		s.Close()
	})
	return a
}

func keyAt(ctx context.Context, address string) (id htlcdash.ProviderID, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/provider", nil)
	if err != nil {
		return id, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return id, err
	}
	defer resp.Body.Close()
	var info struct {
		Key htlcdash.ProviderID `json:"key"`
	}
	err = json.NewDecoder(resp.Body).Decode(&info)
	return info.Key, err
}

func (a *announcer) sell(t *testing.T, titles ...htlcdash.TitleID) {
	t.Helper()
	var list []directory.Announcement
	for _, id := range titles {
		list = append(list, directory.Announcement{Title: id, Publisher: htlcdash.PublisherID{5}, Name: "bunny", Label: `A "film" é <&> 🎬`, Factor: directory.PPM})
	}
	if err := a.host.Sell(list); err != nil {
		t.Fatal(err)
	}
}

// finds reports whether who asks one relay is told that a sells a title.
func finds(t *testing.T, relay string, title htlcdash.TitleID, a *announcer) bool {
	t.Helper()
	d, err := directory.New(directory.Config{Relays: []string{relay}, KeyAt: keyAt, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	found, _ := d.Find(t.Context(), title)
	return len(found) == 1 && found[0].Provider == a.key.ID() && found[0].Address == a.url
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// publicRelay starts a Nostr relay that is not ours.
func publicRelay(t *testing.T) string {
	t.Helper()
	need(t, "foreign/node_modules/@nostr-relay/core", "npm ci --prefix itest/foreign")
	cmd := exec.Command("node", "relay.mjs")
	cmd.Dir, cmd.Stderr = "foreign", os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "ws://127.0.0.1:" + strings.TrimSpace(port)
}

// TestPublicRelay lets providers that know nothing of each other meet at a relay
// that knows nothing of us, and a viewer find them there.
func TestPublicRelay(t *testing.T) {
	relay := publicRelay(t)
	one, two := newAnnouncer(t, 1, relay), newAnnouncer(t, 2, relay)
	film, other := htlcdash.TitleID{7: 0xfe}, htlcdash.TitleID{8: 0xed}
	one.sell(t, film)
	two.sell(t, other)
	soon(t, "a viewer finds it at the public relay", func() bool { return finds(t, relay, film, one) })
	soon(t, "one hears of two", func() bool { return finds(t, one.url, other, two) })
	soon(t, "two hears of one", func() bool { return finds(t, two.url, film, one) })
	one.sell(t)
	soon(t, "what is withdrawn is gone", func() bool { return !finds(t, relay, film, one) && !finds(t, two.url, film, one) })
	// What the relay carries does not depend on us: it comes to who joins later.
	three := newAnnouncer(t, 3, relay)
	soon(t, "three hears of two", func() bool { return finds(t, three.url, other, two) })
}

// TestForeignNostrClient lets nostr-tools read from and write to our relay, and
// judge the events in our vectors.
func TestForeignNostrClient(t *testing.T) {
	need(t, "foreign/node_modules/nostr-tools", "npm ci --prefix itest/foreign")
	a := newAnnouncer(t, 1)
	film := htlcdash.TitleID{7: 0xfe}
	a.sell(t, film)
	b, err := os.ReadFile("../spec/vectors/directory.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Events []struct {
			Event json.RawMessage `json:"event"`
		} `json:"events"`
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors.Events) == 0 {
		t.Fatalf("%d events in the vectors, %v", len(vectors.Events), err)
	}
	var check []json.RawMessage
	for _, v := range vectors.Events {
		check = append(check, v.Event)
	}
	now := time.Now()
	tags := func(title htlcdash.TitleID, ends time.Time) [][]string {
		return [][]string{
			{"d", title.String()},
			{"expiration", fmt.Sprint(ends.Unix())},
			{"p", htlcdash.PublisherID{5}.String()},
			{"name", "film"},
			{"price", "1000000", "0"},
			{"title", "línea \"x\" \\ 😀"},
			{"r", a.url},
		}
	}
	type note struct {
		Kind      int        `json:"kind"`
		CreatedAt int64      `json:"created_at"`
		Tags      [][]string `json:"tags"`
		Content   string     `json:"content"`
	}
	second := htlcdash.TitleID{9: 0xab}
	job, err := json.Marshal(map[string]any{
		"relay": "ws" + strings.TrimPrefix(a.url, "http") + "/v1/relay", "check": check,
		"secret": strings.Repeat("0", 63) + "1", // the provider's own, so that the address is
		"filter": map[string]any{"kinds": []int{directory.Kind}, "#d": []string{film.String(), second.String()}},
		"publish": []note{
			{directory.Kind, now.Unix(), tags(second, now.Add(time.Hour)), ""},
			{directory.Kind, now.Unix(), tags(second, now.Add(48*time.Hour)), ""},
			{1, now.Unix(), [][]string{}, "hello"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "notes.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stderr = "foreign", bytes.NewReader(job), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	var got struct {
		Published, Events []json.RawMessage
		Refused           []string
		Checked           []bool
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("client said %q: %v", out, err)
	}
	for i, ok := range got.Checked {
		if !ok {
			t.Errorf("nostr-tools does not take event %d of the vectors", i)
		}
	}
	if len(got.Checked) != len(check) || len(got.Published) != 1 || len(got.Refused) != 2 {
		t.Errorf("client said %s", out)
	}
	if len(got.Events) != 2 {
		t.Errorf("it read %d events, want its own and the provider's", len(got.Events))
	}
	for _, raw := range got.Events {
		if _, err := nostr.ParseEvent(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	if !finds(t, a.url, second, a) {
		t.Error("what the client announced is not found")
	}
}

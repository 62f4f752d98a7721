package lnd_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"htlcdash/internal/lock"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// field writes one protobuf field; v is a number or bytes.
func field(b []byte, number int, v any) []byte {
	switch v := v.(type) {
	case int:
		return binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3), uint64(v))
	case string:
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3|2), uint64(len(v)))
		return append(b, v...)
	}
	panic("neither")
}

func TestPriceOfARequest(t *testing.T) {
	s, free := newSale(t, 21_000), newSale(t, 0)
	request := func(pairs ...any) (b []byte) {
		for i := 0; i < len(pairs); i += 2 {
			b = field(b, pairs[i].(int), pairs[i+1])
		}
		return b
	}
	for _, test := range []struct {
		name string
		body []byte
		want lightning.Msat
		err  string
	}{
		{"as we send it", request(5, s.Bolt11, 6, 60, 13, 500, 17, 1, 18, 1), 21_500, ""},
		{"fee limit in sat", request(5, s.Bolt11, 7, 2), 23_000, ""},
		{"no fee", request(5, s.Bolt11), 21_000, ""},
		{"amount of a free invoice", request(5, free.Bolt11, 12, 1234), 1234, ""},
		{"the same in sat", request(5, free.Bolt11, 2, 3), 3000, ""},
		{"the last of two amounts", request(5, free.Bolt11, 12, 1, 12, 5000), 5000, ""},
		{"the last of two invoices", request(5, free.Bolt11, 5, s.Bolt11), 21_000, ""},
		{"keysend", request(1, "a node", 12, 1000), 0, "field 1"},
		{"keysend by a record", request(5, s.Bolt11, 11, "record"), 0, "field 11"},
		{"another hash", request(5, s.Bolt11, 3, "hash"), 0, "field 3"},
		{"many payments of one invoice", request(5, s.Bolt11, 22, 1), 0, "field 22"},
		{"other money in the first hop", request(5, s.Bolt11, 25, "record"), 0, "field 25"},
		{"no invoice", request(12, 1000), 0, "invoice"},
		{"negative amount", request(5, free.Bolt11, 12, -5), 0, "out of range"},
		{"negative fee", request(5, s.Bolt11, 7, -5), 0, "out of range"},
		{"cut off", request(5, s.Bolt11)[:9], 0, "protobuf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := lnd.Price(test.body)
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, %v, want an error about %q", got, err, test.err)
			}
		})
	}
}

func FuzzGuardMessages(f *testing.F) {
	s := newSale(f, 21_000)
	f.Add(field(field(nil, 5, s.Bolt11), 13, 500))
	f.Add(field(field(field(nil, 10, 2), 8, 1000), 12, 7))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		if got, _, err := lnd.Price(body); err == nil && got < 0 {
			t.Errorf("a request costs %v", got)
		}
		lnd.Final(body)
		_, _ = lnd.ParseMacaroon(body)
	})
}

// memory is a tally that can be told to fail.
type memory struct {
	all    map[string]lnd.Charge
	broken bool
}

func (m *memory) Load(context.Context) (all []lnd.Charge, err error) {
	for _, c := range m.all {
		all = append(all, c)
	}
	return all, nil
}

func (m *memory) Save(_ context.Context, charges []lnd.Charge) error {
	if m.broken {
		return errors.New("disk full")
	}
	for _, c := range charges {
		m.all[c.Account+c.Hash.String()] = c
	}
	return nil
}

// middleware is lnd's side of the guard's socket.
type middleware struct {
	t    *testing.T
	conn chan *websocket.Conn
	open *websocket.Conn
	next uint64
}

func (f *fake) middleware(t *testing.T) *middleware {
	m := &middleware{t: t, conn: make(chan *websocket.Conn)}
	f.on("GET /v1/middleware", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_, register, err := c.Read(r.Context())
		if err != nil || !strings.Contains(string(register), `"custom_macaroon_caveat_name":"htlcdash"`) || r.URL.Query().Get("method") != "POST" {
			t.Errorf("registered with %s, %v", register, err)
		}
		m.send(c, map[string]any{"reg_complete": true, "request_id": "0", "msg_id": "0", "raw_macaroon": ""})
		m.conn <- c
		<-r.Context().Done()
	})
	return m
}

func (m *middleware) send(c *websocket.Conn, result any) {
	b, _ := json.Marshal(map[string]any{"result": result})
	if err := c.Write(soon(m.t), websocket.MessageText, b); err != nil {
		m.t.Error(err)
	}
}

// ask intercepts a message and returns the guard's refusal.
func (m *middleware) ask(request uint64, mac lnd.Macaroon, kind, method string, body []byte, isError bool) string {
	m.t.Helper()
	m.next++
	m.send(m.open, map[string]any{
		"request_id": fmt.Sprint(request), "msg_id": fmt.Sprint(m.next), "raw_macaroon": mac.Reveal(),
		kind: map[string]any{"method_full_uri": method, "serialized": body, "is_error": isError},
	})
	_, b, err := m.open.Read(soon(m.t))
	if err != nil {
		m.t.Fatal(err)
	}
	var got struct {
		ID       string `json:"ref_msg_id"`
		Feedback struct {
			Error string `json:"error"`
		} `json:"feedback"`
	}
	if err := json.Unmarshal(b, &got); err != nil || got.ID != fmt.Sprint(m.next) {
		m.t.Fatalf("got %s, %v", b, err)
	}
	return got.Feedback.Error
}

const send = "/routerrpc.Router/SendPaymentV2"

// TestGuardCountsDoubtAsSpent lets the guard and its clients vanish at the
// worst moments.
func TestGuardCountsDoubtAsSpent(t *testing.T) {
	f := newFake(t)
	m := f.middleware(t)
	tally := &memory{all: make(map[string]lnd.Charge)}
	base, err := lnd.ReadMacaroon(f.macaroon)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := base.WithBudget(10_000)
	if err != nil {
		t.Fatal(err)
	}
	states := map[lightning.Hash]string{} // what lnd will say; written before it is asked
	asked := make(chan lightning.Hash, 100)
	serve := func(s sale) {
		f.on(s.trackPath(), func(w http.ResponseWriter, r *http.Request) {
			if states[s.Hash] == "" {
				fault(w, 404, 5, "payment isn't initiated")
			} else {
				line(w, s.payment(states[s.Hash]))
			}
			asked <- s.Hash
		})
	}
	start := func(sure time.Duration) (stop func()) {
		n := f.node(t)
		n.SetSure(sure)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Guard(ctx, tally, func() {}) }()
		m.open = <-m.conn
		return func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
	request := uint64(0)
	pay := func(s sale) string {
		request++
		if refusal := m.ask(request, mac, "stream_auth", send, nil, false); refusal != "" {
			return refusal
		}
		return m.ask(request, mac, "request", send, field(nil, 5, s.Bolt11), false)
	}
	allowed := func(s sale) {
		t.Helper()
		if refusal := pay(s); refusal != "" {
			t.Fatalf("refused: %s", refusal)
		}
	}
	refused := func(s sale, want string) {
		t.Helper()
		if got := pay(s); !strings.Contains(got, want) {
			t.Fatalf("got %q, want a refusal that says %q", got, want)
		}
	}

	lost, dead, held := newSale(t, 4000), newSale(t, 3000), newSale(t, 2000)
	for _, s := range []sale{lost, dead, held} {
		serve(s)
	}
	states[lost.Hash], states[held.Hash] = "SUCCEEDED", "IN_FLIGHT"

	stop := start(time.Hour)
	allowed(lost)
	allowed(dead)
	allowed(held)
	refused(newSale(t, 1001), "1 sat left") // nobody has said how they ended
	if got := m.ask(99, mac, "request", "/lnrpc.Lightning/SendCoins", nil, false); !strings.Contains(got, "does not allow this call") {
		t.Errorf("sending coins: %q", got)
	}
	if got := m.ask(99, base, "request", send, nil, false); !strings.Contains(got, "names no budget") {
		t.Errorf("without a budget: %q", got)
	}
	tally.broken = true
	refused(newSale(t, 1), "tally")
	tally.broken = false
	stop()

	stop = start(time.Hour) // a new guard believes the tally
	refused(newSale(t, 1001), "over budget")
	stop()

	stop = start(20 * time.Millisecond) // and asks lnd in time: one paid, one never began, one is held
	defer stop()
	seen := map[lightning.Hash]int{}
	for seen[held.Hash] < 3 { // two rounds are over
		seen[<-asked]++
	}
	allowed(newSale(t, 3900))        // lost: 4000 and its fee of 7; dead: given back; held: still 2000
	refused(newSale(t, 100), "over") // 93 are left
	if got := m.ask(request, mac, "response", send, field(field(field(nil, 10, 2), 8, 10), 12, 0), false); got != "" {
		t.Errorf("a response is held up: %q", got)
	}
}

func TestFileTally(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tally")
	a, b := newSale(t, 1).Hash, newSale(t, 1).Hash
	save := func(tally *lnd.FileTally, charges ...lnd.Charge) {
		t.Helper()
		if err := tally.Save(t.Context(), charges); err != nil {
			t.Fatal(err)
		}
	}
	tally, err := lnd.OpenTally(file)
	if err != nil {
		t.Fatal(err)
	}
	save(tally, lnd.Charge{Account: "x", Hash: a, Amount: 5}, lnd.Charge{Account: "y", Hash: a, Amount: 6})
	save(tally, lnd.Charge{Account: "x", Hash: b, Amount: 7})
	save(tally, lnd.Charge{Account: "x", Hash: a, Amount: 4, Paid: true}, lnd.Charge{Account: "x", Hash: b})
	if err := tally.Close(); err != nil {
		t.Fatal(err)
	}

	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `[{"account":"x","ha`) // a crash in the middle of a line
	f.Close()

	for range 2 { // and once more after it was written anew
		if tally, err = lnd.OpenTally(file); err != nil {
			t.Fatal(err)
		}
		got, err := tally.Load(t.Context())
		slices.SortFunc(got, func(a, b lnd.Charge) int { return strings.Compare(a.Account, b.Account) })
		want := []lnd.Charge{{Account: "x", Hash: a, Amount: 4, Paid: true}, {Account: "y", Hash: a, Amount: 6}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if err := tally.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", st.Mode(), err)
	}

	if err := os.WriteFile(file, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lnd.OpenTally(file); err == nil || !strings.Contains(err.Error(), "line 1 is damaged") {
		t.Errorf("a damaged tally: %v", err)
	}
}

// What follows a write that failed is not lost behind its torn line.
func TestFileTallyAfterAFailedWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tally")
	a, b, c := newSale(t, 1).Hash, newSale(t, 1).Hash, newSale(t, 1).Hash
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tally, err := lnd.OpenTally(file)
	must(err)
	must(tally.Save(t.Context(), []lnd.Charge{{Account: "x", Hash: a, Amount: 5}}))
	must(tally.Tear())
	if err := tally.Save(t.Context(), []lnd.Charge{{Account: "x", Hash: b, Amount: 6}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write that failed: %v", err)
	}
	must(tally.Save(t.Context(), []lnd.Charge{{Account: "x", Hash: c, Amount: 7}}))
	must(tally.Close())
	tally, err = lnd.OpenTally(file)
	must(err)
	defer tally.Close()
	got, err := tally.Load(t.Context())
	slices.SortFunc(got, func(a, b lnd.Charge) int { return int(a.Amount - b.Amount) })
	want := []lnd.Charge{{Account: "x", Hash: a, Amount: 5}, {Account: "x", Hash: c, Amount: 7}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := lnd.OpenTally(file); !errors.Is(err, lock.ErrHeld) {
		t.Errorf("a second guard: %v", err)
	}
}

package buyer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/fraud"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A stand sells one file by chunks of one leaf. By default it is honest.
type stand struct {
	*shop
	data   []byte
	cut    exchange.Cut
	layer  []htlcdash.Root
	price  lightning.Msat                         // of a MiB
	spoil  func(c *exchange.Chunk)                // tampers with a chunk, and signs it all the same
	forge  func(c *exchange.Chunk)                // tampers with a signed chunk
	terms  func(f *exchange.FileInfo)             // tampers with what it says of the file
	layers func(layer []byte) []byte              // tampers with the roots of chunks
	answer func(w io.Writer, chunks []byte) error // sends chunks in its own way

	mu    sync.Mutex
	asked [][]int // chunks, by request
}

// chunkPrice is what a chunk of a stand costs.
const chunkPrice = price

// stand opens one that sells so many chunks, the last of which is short.
func (w *world) stand(t testing.TB, name string, chunks int) *stand {
	t.Helper()
	data := make([]byte, chunks*htlcdash.LeafSize-777)
	for i := range data {
		data[i] = byte(i*i>>10) ^ byte(i)
	}
	s := &stand{shop: w.shop(t, name), data: data, price: chunkPrice * 64}
	s.cut = exchange.Cut{File: htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}, Leaves: 1}
	leaves, _, err := htlcdash.HashLeaves(bytes.NewReader(data))
	must(t, err)
	s.layer = s.cut.Layer(leaves)
	mux := http.NewServeMux()
	mux.Handle("/", s.Config.Handler)
	mux.HandleFunc("GET /v1/files/{root}", s.file)
	mux.HandleFunc("GET /v1/files/{root}/layer", s.sendLayer)
	mux.HandleFunc("POST /v1/chunks", s.chunks)
	s.Server.Close()
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Server.Close)
	return s
}

func (s *stand) file(w http.ResponseWriter, _ *http.Request) {
	f := exchange.FileInfo{Root: s.cut.File.Root, Length: s.cut.File.Length, Name: "film", Leaves: s.cut.Leaves, Price: s.price}
	if s.terms != nil {
		s.terms(&f)
	}
	_ = json.NewEncoder(w).Encode(exchange.FileList{Provider: s.till.Key.ID(), Files: []exchange.FileInfo{f}})
}

func (s *stand) sendLayer(w http.ResponseWriter, _ *http.Request) {
	var b []byte
	for _, r := range s.layer {
		b = append(b, r[:]...)
	}
	if s.layers != nil {
		b = s.layers(b)
	}
	_, _ = w.Write(b)
}

func (s *stand) chunks(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseChunkRequest(body)
	guest, ok := s.guest(r, body).(exchange.Keyer)
	if err != nil || !ok {
		http.Error(w, "who is it?", http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, req.Indices)
	s.mu.Unlock()
	var out []byte
	for _, i := range req.Indices {
		c, err := s.sell(r.Context(), guest, req, i)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out = append(out, c.Encode()...)
	}
	if s.answer == nil || s.answer(w, out) != nil {
		_, _ = w.Write(out)
	}
}

func (s *stand) sell(ctx context.Context, guest exchange.Keyer, req exchange.ChunkRequest, i int) (exchange.Chunk, error) {
	offset, length := s.cut.Span(i)
	sale, err := exchange.Keyed{}.Sell(ctx, s.till, guest, s.cut, i, req.Nonce, exchange.ChunkPrice(s.price, length), time.Now())
	if err != nil {
		return exchange.Chunk{}, err
	}
	c, err := sale.Seal(s.till.Key, s.data[offset:offset+length], s.layer[i])
	if err == nil && s.spoil != nil {
		s.spoil(&c)
		err = c.Commit(s.till.Key)
	}
	if err == nil && s.forge != nil {
		s.forge(&c)
	}
	return c, err
}

// garbage spoils the chunks from one on.
func garbageFrom(n int) func(*exchange.Chunk) {
	return func(c *exchange.Chunk) {
		if c.Index >= n {
			c.Sealed[len(c.Sealed)/2] ^= 0xff
		}
	}
}

// A visit is a buyer with a store, and what it complained about.
type visit struct {
	*buyer.Buyer
	s    *stand
	conf buyer.Config
	path string // of the store

	mu         sync.Mutex
	complaints [][]byte
	steps      []buyer.FileProgress
}

func (w *world) visit(t testing.TB, s *stand, change func(*buyer.Config)) *visit {
	t.Helper()
	v := &visit{s: s, conf: w.config(t), path: filepath.Join(filepath.Dir(w.path), "film.part")}
	v.conf.Complain = func(b []byte) (string, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.complaints = append(v.complaints, b)
		return fmt.Sprint(len(v.complaints)), nil
	}
	if change != nil {
		change(&v.conf)
	}
	v.Buyer = w.open(t, v.conf, s.shop)
	return v
}

func (v *visit) buy(t testing.TB, change func(*buyer.FileOrder)) error {
	t.Helper()
	f, err := os.OpenFile(v.path, os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	o := buyer.FileOrder{
		File: v.s.cut.File, Provider: v.s.provider(t), MaxPrice: v.s.price, To: f,
		Progress: func(p buyer.FileProgress) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.steps = append(v.steps, p)
		},
	}
	if change != nil {
		change(&o)
	}
	return v.File(t.Context(), o)
}

func (v *visit) account() buyer.Account { return v.Account(htlcdash.TitleID(v.s.cut.File.Root)) }

// wantFile holds what lies in the store, and what it cost.
func (v *visit) wantFile(t testing.TB, w *world, chunks int) {
	t.Helper()
	got, err := os.ReadFile(v.path)
	must(t, err)
	if !bytes.Equal(got, v.s.data) {
		t.Error("the store holds another file")
	}
	v.wantSpent(t, w, chunks, 0)
	left, err := v.conf.Ledger.Parcels(context.Background(), htlcdash.TitleID(v.s.cut.File.Root))
	must(t, err)
	for _, p := range left { // only what may yet be paid
		if p.State != lightning.Failed || !strings.Contains(p.Reason, "never reached") {
			t.Errorf("a parcel is left of a payment that is %v: %s", p.State, p.Reason)
		}
	}
}

// sum is what so many chunks cost: the last one of the file is cheaper.
func (v *visit) sum(chunks int) (sum lightning.Msat) {
	for i := range chunks {
		_, n := v.s.cut.Span(i)
		sum += exchange.ChunkPrice(v.s.price, n)
	}
	return sum
}

func (v *visit) wantSpent(t testing.TB, w *world, chunks, lost int) {
	t.Helper()
	want := v.sum(chunks)
	a := v.account()
	booked, err := v.conf.Ledger.Lost(context.Background(), nil)
	must(t, err)
	if left := w.left(t); left != want || a.Spent != want {
		t.Errorf("the node says %v were spent, the account %v; want %v for %d chunks", left, a.Spent, want, chunks)
	}
	if n := lightning.Msat(lost) * chunkPrice; a.Lost != n || booked != n {
		t.Errorf("lost %v, in the books %v, want %v", a.Lost, booked, n)
	}
	if a.Reserved != 0 || a.InFlight != 0 {
		t.Errorf("reserved %v, %d in flight; want nothing", a.Reserved, a.InFlight)
	}
	must(t, w.net.Check())
}

func TestFileInGrowingWindows(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunks int
		order  func(*buyer.FileOrder)
		want   string // sizes of the requests
	}{
		{"one chunk", 1, nil, "1"},
		{"as wide as it may", 40, nil, "1 2 4 8 16 9"},
		{"a window of 4", 20, func(o *buyer.FileOrder) { o.Window = 4 }, "1 2 4 4 4 4 1"},
		{"one at a time", 3, func(o *buyer.FileOrder) { o.Window = 1 }, "1 1 1"},
		{"bound by money", 10, func(o *buyer.FileOrder) { o.Exposure = 3 * chunkPrice }, "1 2 3 3 1"},
		{"less money than a chunk costs", 3, func(o *buyer.FileOrder) { o.Exposure = 1 }, "1 1 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			s := w.stand(t, "stand", tt.chunks)
			v := w.visit(t, s, nil)
			must(t, v.buy(t, tt.order))
			v.wantFile(t, w, tt.chunks)
			var sizes []string
			for _, r := range s.asked {
				sizes = append(sizes, fmt.Sprint(len(r)))
			}
			if got := strings.Join(sizes, " "); got != tt.want {
				t.Errorf("windows of %s, want %s", got, tt.want)
			}
			last := v.steps[len(v.steps)-1]
			if last.Have != tt.chunks || last.Bytes != int64(len(s.data)) || last.Spent != v.sum(tt.chunks) {
				t.Errorf("progress ends with %+v", last)
			}
		})
	}
}

// Whatever a cheat does and when, the buyer loses at most one window, has the
// proof, and pays no more.
func TestFileFromACheat(t *testing.T) {
	for _, tt := range []struct {
		name        string
		spoil       func(*exchange.Chunk)
		window      int
		paid, lost  int // chunks
		windowAtEnd int
	}{
		{"garbage everywhere", garbageFrom(0), 0, 1, 1, 1},
		{"from the second chunk on", garbageFrom(1), 0, 3, 2, 2},
		{"from the third chunk on", garbageFrom(2), 0, 3, 1, 2},
		{"from the fourth chunk on", garbageFrom(3), 0, 7, 4, 4},
		{"from the ninth chunk on", garbageFrom(8), 0, 15, 7, 8},
		{"one chunk only", func(c *exchange.Chunk) {
			if c.Index == 5 {
				c.Sealed[0]++
			}
		}, 0, 7, 1, 4},
		{"a cautious buyer", garbageFrom(20), 2, 21, 1, 2},
		{"one at a time", garbageFrom(9), 1, 10, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			s := w.stand(t, "stand", 40)
			s.spoil = tt.spoil
			v := w.visit(t, s, nil)
			window := func(o *buyer.FileOrder) { o.Window = tt.window }
			wantErr(t, v.buy(t, window), buyer.ErrCheated)
			v.wantSpent(t, w, tt.paid, tt.lost)
			if tt.lost > tt.windowAtEnd {
				t.Errorf("lost %d chunks, more than a window of %d", tt.lost, tt.windowAtEnd)
			}
			if len(v.complaints) != tt.lost {
				t.Errorf("%d complaints about %d bad chunks", len(v.complaints), tt.lost)
			}
			for _, b := range v.complaints {
				c, err := fraud.Parse(b)
				must(t, err)
				verdict, err := c.Judge(nil)
				if err != nil || verdict.Accused != s.till.Key.ID().String() {
					t.Errorf("the complaint proves %+v, %v", verdict, err)
				}
			}
			wantErr(t, v.buy(t, window), buyer.ErrNoOffer) // banned
			v.Close()
			must(t, v.conf.Ledger.Close())

			v = w.visit(t, s, nil)
			wantErr(t, v.buy(t, window), buyer.ErrNoOffer) // in later runs, too
			v.wantSpent(t, w, tt.paid, tt.lost)
		})
	}
}

// A cheat that moves is known by its key.
func TestCheatAtAnotherAddress(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 8)
	s.spoil = garbageFrom(0)
	v := w.visit(t, s, nil)
	wantErr(t, v.buy(t, nil), buyer.ErrCheated)
	moved := w.stand(t, "stand again", 8)
	moved.till = exchange.NewTill(moved.node, s.till.Secret, 0)
	moved.useKeys(t, 1)
	v.s = moved
	wantErr(t, v.buy(t, nil), buyer.ErrNoOffer)
	v.wantSpent(t, w, 1, 1)
}

// One who sends a single chunk at a time, whatever is asked, earns no wide
// window by it.
func TestFileFromAMeasuredCheat(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 40)
	v := w.visit(t, s, nil)
	sent := 0
	s.answer = func(w io.Writer, b []byte) error {
		if sent++; sent <= 10 {
			b = b[:min(len(b), htlcdash.LeafSize+900)] // one, and the head of another
		}
		_, err := w.Write(b)
		return err
	}
	s.spoil = garbageFrom(10)
	wantErr(t, v.buy(t, nil), buyer.ErrCheated)
	if lost := v.account().Lost; lost == 0 || lost > 2*chunkPrice {
		t.Errorf("lost %v, a window of one that sent single chunks is worth %v", lost, 2*chunkPrice)
	}
}

// What is not as it was asked for is not paid.
func TestFileOffersThatAreRefused(t *testing.T) {
	var old *exchange.Chunk
	for _, tt := range []struct {
		name  string
		spoil func(s *stand)
		want  error
	}{
		{"a price above the buyer's", func(s *stand) { s.terms = func(f *exchange.FileInfo) { f.Price++ } }, buyer.ErrPrice},
		{"a chunk that costs more than was said", func(s *stand) {
			s.terms = func(f *exchange.FileInfo) { f.Price = 60 * chunkPrice }
		}, buyer.ErrTerms},
		{"another file", func(s *stand) { s.terms = func(f *exchange.FileInfo) { f.Root[0]++ } }, htlcdash.ErrFormat},
		{"another length", func(s *stand) { s.terms = func(f *exchange.FileInfo) { f.Length-- } }, buyer.ErrTerms},
		{"roots that are not the file's", func(s *stand) {
			s.layers = func(b []byte) []byte { b[40]++; return b }
		}, htlcdash.ErrCorrupt},
		{"too few roots", func(s *stand) { s.layers = func(b []byte) []byte { return b[32:] } }, htlcdash.ErrCorrupt},
		{"a replayed offer", func(s *stand) {
			s.forge = func(c *exchange.Chunk) {
				if old == nil {
					other := *c
					other.Nonce[0]++
					must(t, other.Commit(s.till.Key))
					old = &other
				}
				*c = *old
			}
		}, buyer.ErrTerms},
		{"sealed bytes that were not signed", func(s *stand) { s.forge = func(c *exchange.Chunk) { c.Sealed[3]++ } }, htlcdash.ErrCorrupt},
		{"values of other bytes", func(s *stand) { s.spoil = func(c *exchange.Chunk) { c.Chain[3][0]++ } }, htlcdash.ErrCorrupt},
		{"no signature", func(s *stand) { s.forge = func(c *exchange.Chunk) { c.Signature = [64]byte{} } }, htlcdash.ErrSignature},
		{"the signature of another", func(s *stand) {
			s.forge = func(c *exchange.Chunk) {
				c.Signature, _ = c.Sign(exchange.NewSecret(sha256.Sum256([]byte("mallory"))).ProviderKey())
			}
		}, htlcdash.ErrSignature},
		{"an offer that expires at once", func(s *stand) {
			s.spoil = func(c *exchange.Chunk) { c.Expires = time.Now().Add(time.Second).Truncate(time.Second) }
		}, buyer.ErrTerms},
		{"nothing", func(s *stand) { s.answer = func(io.Writer, []byte) error { return nil } }, io.EOF},
		{"half a chunk", func(s *stand) {
			s.answer = func(w io.Writer, b []byte) error { _, err := w.Write(b[:len(b)/2]); return err }
		}, io.ErrUnexpectedEOF},
		{"text", func(s *stand) {
			s.answer = func(w io.Writer, b []byte) error { _, err := w.Write(bytes.Repeat([]byte("no "), 300)); return err }
		}, htlcdash.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			s := w.stand(t, "stand", 5)
			v := w.visit(t, s, nil)
			tt.spoil(s)
			wantErr(t, v.buy(t, nil), tt.want)
			v.wantSpent(t, w, 0, 0)
		})
	}
}

// A line that breaks behind some chunks costs none of them.
func TestFileOverABadLine(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 12)
	v := w.visit(t, s, nil)
	s.answer = func(w io.Writer, b []byte) error {
		one := len(b) / max(1, len(b)/(htlcdash.LeafSize+1000))
		_, err := w.Write(b[:min(len(b), one+one/2)])
		return err
	}
	must(t, v.buy(t, nil))
	v.wantFile(t, w, 12)
}

// What a budget does not allow is not begun.
func TestFileWithinABudget(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 12)
	v := w.visit(t, s, func(c *buyer.Config) { c.Limits.Title, c.Fee = 5*chunkPrice, buyer.Fee{} })
	wantErr(t, v.buy(t, nil), buyer.ErrBudget)
	v.wantSpent(t, w, 5, 0)
	must(t, v.SetTitleBudget(t.Context(), htlcdash.TitleID(s.cut.File.Root), buyer.NoLimit))
	must(t, v.buy(t, nil))
	v.wantFile(t, w, 12)
}

// Payments that fail are tried again with less at a time, and not for ever.
func TestFileOverABadRoute(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 12)
	v := w.visit(t, s, nil)
	w.viewer.Order(sim.None, sim.None, sim.Refuse, sim.Refuse, sim.None, sim.Refuse)
	must(t, v.buy(t, nil))
	v.wantFile(t, w, 12)

	w = newWorld(t, 0)
	s = w.stand(t, "stand", 12)
	v = w.visit(t, s, nil)
	for range 20 {
		w.viewer.Order(sim.Refuse)
	}
	wantErr(t, v.buy(t, nil), lightning.ErrFailed)
	v.wantSpent(t, w, 0, 0)
}

// A provider that takes payments and lets them hang holds one window, and gets
// no more; what it holds is waited for before anything is bought again.
func TestFileThatIsNotSettled(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 12)
	v := w.visit(t, s, func(c *buyer.Config) { c.Patience = 200 * time.Millisecond })
	w.viewer.Order(sim.None, sim.Stall, sim.Stall)
	wantErr(t, v.buy(t, nil), lightning.ErrInFlight)
	if a := v.account(); a.InFlight != 2 || a.Reserved < 2*chunkPrice || a.Spent != chunkPrice {
		t.Errorf("account %+v", a)
	}
	asked := len(s.asked)
	wantErr(t, v.buy(t, nil), lightning.ErrInFlight)
	if len(s.asked) != asked {
		t.Error("more was asked for while payments hang")
	}
	open, err := v.conf.Ledger.Unsettled(t.Context())
	must(t, err)
	for _, p := range open {
		w.net.Release(p.Hash, true)
	}
	quiet(t, v.Buyer, htlcdash.TitleID(s.cut.File.Root))
	must(t, v.buy(t, nil))
	v.wantFile(t, w, 12)
}

// After a crash at any step no chunk is paid for twice, and none that was paid
// for is lost.
func TestFileAfterACrash(t *testing.T) {
	for _, step := range []string{"before-intent", "intent", "paid", "key", "stored"} {
		for _, at := range []int{1, 3, 5} {
			t.Run(fmt.Sprintf("%s, %d", step, at), func(t *testing.T) {
				w := newWorld(t, 0)
				s := w.stand(t, "stand", 20)
				crashed, end := make(chan struct{}), make(chan struct{})
				var mu sync.Mutex
				var v *visit
				n := 0
				v = w.visit(t, s, func(c *buyer.Config) {
					c.Step = func(now string) {
						mu.Lock()
						defer mu.Unlock()
						if now == step {
							n++
						}
						if n >= at { // as with kill -9, nothing is written from here on
							if n == at {
								must(t, v.conf.Ledger.Close())
								close(crashed)
							}
							n = at + 1
							mu.Unlock()
							<-end
							mu.Lock()
						}
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				f, err := os.Create(v.path)
				must(t, err)
				defer f.Close()
				go v.File(ctx, buyer.FileOrder{File: s.cut.File, Provider: s.provider(t), MaxPrice: s.price, To: f})
				<-crashed
				t.Cleanup(func() { close(end) }) // before the buyer is closed
				cancel()
				w.net.Wait()

				again := w.visit(t, s, nil)
				must(t, again.Recover(t.Context()))
				must(t, again.buy(t, nil))
				again.wantFile(t, w, 20)
			})
		}
	}
}

// What the store has already is not bought, and what is wrong in it is.
func TestFileThatIsThereInPart(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 10)
	v := w.visit(t, s, nil)
	part := bytes.Clone(s.data)
	part[4*htlcdash.LeafSize] ^= 1
	must(t, os.WriteFile(v.path, part[:7*htlcdash.LeafSize+5], 0o600))
	must(t, v.buy(t, nil))
	got, err := os.ReadFile(v.path)
	must(t, err)
	if !bytes.Equal(got, s.data) {
		t.Error("the store holds another file")
	}
	if spent := w.left(t); spent != v.sum(10)-6*chunkPrice {
		t.Errorf("spent %v", spent)
	}
	must(t, v.buy(t, nil)) // all is there
	if spent := w.left(t); spent != v.sum(10)-6*chunkPrice {
		t.Errorf("spent %v for what was there", spent)
	}
}

// A cheat under the scheme salted has signed the proof of it as well.
func TestComplaintAboutASaltedKey(t *testing.T) {
	w := newWorld(t, 1)
	s := w.stand(t, "stand", 1)
	s.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{1}) }
	v := w.visit(t, s, nil)
	_, err := v.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrCheated)
	if len(v.complaints) != 1 {
		t.Fatalf("%d complaints", len(v.complaints))
	}
	c, err := fraud.Parse(v.complaints[0])
	must(t, err)
	verdict, err := c.Judge(nil)
	if _, ok := c.(fraud.Salted); !ok || err != nil || verdict.Accused != s.till.Key.ID().String() {
		t.Errorf("%T proves %+v, %v", c, verdict, err)
	}
}

// Two do not put one file together.
func TestFileOnceAtATime(t *testing.T) {
	w := newWorld(t, 0)
	s := w.stand(t, "stand", 3)
	v := w.visit(t, s, nil)
	var second error
	v.conf.Step = nil
	must(t, v.buy(t, func(o *buyer.FileOrder) {
		o.Progress = func(buyer.FileProgress) {
			if second == nil {
				second = v.buy(t, nil)
			}
		}
	}))
	if !errors.Is(second, buyer.ErrStopped) {
		t.Errorf("the second gets %v", second)
	}
}

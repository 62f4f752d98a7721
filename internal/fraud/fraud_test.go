package fraud_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/fraud"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// node makes invoices and remembers the last preimage.
type node struct{ last lightning.Preimage }

var start = time.Unix(1_800_000_000, 0).UTC()

func (n *node) Invoice(_ context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	n.last = p
	key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	return lightning.EncodeInvoice(lightning.Invoice{
		Hash: p.Hash(), Amount: t.Amount, Expiry: t.Expiry, Created: start, Network: lightning.Regtest,
	}, sha256.Sum256([]byte("payment secret")), key)
}

var (
	secret  = exchange.NewSecret([32]byte{0x11})
	mallory = exchange.NewSecret([32]byte{0x66}).ProviderKey()
)

// keyer is a buyer's credential.
type keyer [1]byte

func (k keyer) ChunkKey(master [32]byte, _ htlcdash.Root, index uint64, _ int64) htlcdash.Key {
	return htlcdash.NewKey(sha256.Sum256(append(master[:], k[0], byte(index))))
}

// chunk sells one chunk of a file: what the buyer has of it after it has paid.
// spoil tampers with what the provider seals; nil: it is honest.
func chunk(t testing.TB, index int, token byte, spoil func(sealed []byte)) (exchange.Chunk, lightning.Preimage) {
	t.Helper()
	data := make([]byte, 6*htlcdash.LeafSize+5000)
	for i := range data {
		data[i] = byte(i * i >> 9)
	}
	cut := exchange.Cut{File: htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}, Leaves: 4}
	n := &node{}
	till := exchange.Till{Payee: n, Secret: secret, Life: exchange.OfferLife}
	sale, err := exchange.Keyed{}.Sell(t.Context(), till, keyer{token}, cut, index, exchange.Nonce{3}, 2000, start)
	must(t, err)
	from, length := cut.Span(index)
	plain := data[from : from+length]
	c, err := sale.Seal(secret.ProviderKey(), plain, cut.RootOf(plain))
	must(t, err)
	if spoil != nil {
		spoil(c.Sealed)
		must(t, c.Commit(secret.ProviderKey()))
	}
	return c, n.last
}

// keyed is the complaint about a chunk whose cell j is spoilt.
func keyed(t testing.TB, j int, spoil func([]byte)) fraud.Keyed {
	t.Helper()
	c, key := chunk(t, 0, 1, spoil)
	return fraud.Keyed{Provider: secret.ProviderKey().ID(), Promise: c.ChunkPromise, Signature: c.Signature, Preimage: key, Evidence: c.Evidence(j)}
}

func garbage(sealed []byte) { clear(sealed[5*exchange.CellSize+9:][:100]) }

// salted is a complaint about a key: of a lie if the provider signed that it
// sells another key than it has.
func salted(t testing.TB, lie bool) fraud.Salted {
	t.Helper()
	a, s := htlcdash.NewKey([32]byte{5}), htlcdash.Salt{6}
	preimage := s.Preimage(a)
	p := exchange.Promise{
		Title: htlcdash.TitleID{1}, Sealed: htlcdash.Root{2}, KeyHash: a.Hash(), Price: 2000, Hash: preimage.Hash(), Salt: s, Expires: start,
	}
	if lie {
		p.KeyHash = htlcdash.NewKey([32]byte{9}).Hash()
	}
	sig, err := p.Sign(secret.ProviderKey())
	must(t, err)
	return fraud.Salted{Provider: secret.ProviderKey().ID(), Promise: p, Signature: sig, Preimage: preimage}
}

// sealed is a complaint about segment 2 of a title: of a lie if the publisher
// signed another root of the segment than that of what it sealed.
func sealed(t testing.TB, lie bool) fraud.Sealed {
	t.Helper()
	made := titletest.Make(t, titletest.Options{})
	const rep, index = "a0", 2
	var list htlcdash.SealList
	for _, seg := range made.Segments(t, rep) {
		list = append(list, seg.Seal)
	}
	seg := made.Segments(t, rep)[index]
	key, err := made.Keys.Key(t.Context(), seg)
	must(t, err)
	c := fraud.Sealed{MPD: made.MPD, Representation: rep, Index: index, Key: key, Bytes: made.Sealed(t, seg)}
	if lie {
		list[index].Plain = htlcdash.Root{0xbb}
		pays := map[string]dash.Pay{}
		for _, r := range made.Manifest.Representations() {
			pays[r.ID] = *r.Pay
		}
		pay := pays[rep]
		pay.ListRoot = list.Root()
		pays[rep] = pay
		c.MPD, err = made.Manifest.Extend(made.Publisher, dash.Places{}, pays)
		must(t, err)
	}
	c.Seal, c.Path = list[index], list.Path(index)
	c.Signature, err = made.Key.Sign(htlcdash.IDOf(c.MPD))
	must(t, err)
	return c
}

func TestFraudIsProven(t *testing.T) {
	lie := sealed(t, true)
	bare := lie
	bare.Bytes = nil
	for _, tt := range []struct {
		name      string
		complaint fraud.Complaint
		sealed    []byte
		role      string
		accused   fmt.Stringer
	}{
		{"a cell that is garbage", keyed(t, 5, garbage), nil, "provider", secret.ProviderKey().ID()},
		{"the first cell", keyed(t, 0, func(b []byte) { b[0]++ }), nil, "provider", secret.ProviderKey().ID()},
		{"all is garbage", keyed(t, 7, func(b []byte) { clear(b) }), nil, "provider", secret.ProviderKey().ID()},
		{"another key than promised", salted(t, true), nil, "provider", secret.ProviderKey().ID()},
		{"another segment than signed", lie, nil, "publisher", lie.Signature.Publisher},
		{"another segment than signed, bytes apart", bare, lie.Bytes, "publisher", lie.Signature.Publisher},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := fraud.Parse(tt.complaint.Encode())
			must(t, err)
			v, err := c.Judge(tt.sealed)
			must(t, err)
			if v.Role != tt.role || v.Accused != tt.accused.String() || len(v.Shown) < 3 || v.Charge == "" {
				t.Errorf("verdict %+v", v)
			}
			if !bytes.Equal(c.Encode(), tt.complaint.Encode()) {
				t.Error("read in one way, written in another")
			}
		})
	}
}

// Nobody can be framed: what an honest party has signed and given away convicts
// it of nothing, however it is put together.
func TestNobodyIsFramed(t *testing.T) {
	honest, key := chunk(t, 0, 1, nil)
	other, otherKey := chunk(t, 0, 2, nil) // another buyer's
	next, nextKey := chunk(t, 1, 1, nil)
	with := func(change func(c *fraud.Keyed)) fraud.Keyed {
		c := fraud.Keyed{Provider: secret.ProviderKey().ID(), Promise: honest.ChunkPromise, Signature: honest.Signature, Preimage: key, Evidence: honest.Evidence(5)}
		change(&c)
		return c
	}
	sold := func(lie bool, change func(c *fraud.Salted)) fraud.Salted {
		c := salted(t, lie)
		change(&c)
		return c
	}
	published := func(lie bool, change func(c *fraud.Sealed)) fraud.Sealed {
		c := sealed(t, lie)
		change(&c)
		return c
	}
	never := lightning.NewPreimage([32]byte{0x77})
	for _, tt := range []struct {
		name      string
		complaint fraud.Complaint
		want      error
	}{
		{"keyed: an honest exchange", with(func(*fraud.Keyed) {}), fraud.ErrKept},
		{"keyed: a key that was never released", with(func(c *fraud.Keyed) { c.Preimage = never }), exchange.ErrTerms},
		{"keyed: the key of another buyer", with(func(c *fraud.Keyed) { c.Preimage = otherKey }), exchange.ErrTerms},
		{"keyed: the key of another chunk", with(func(c *fraud.Keyed) { c.Preimage = nextKey }), exchange.ErrTerms},
		{"keyed: a cell of another buyer", with(func(c *fraud.Keyed) { c.Evidence = other.Evidence(5) }), exchange.ErrTerms},
		{"keyed: a cell of another chunk", with(func(c *fraud.Keyed) { c.Evidence = next.Evidence(5) }), exchange.ErrTerms},
		{"keyed: another cell in its place", with(func(c *fraud.Keyed) { c.Evidence.Cell = 4 }), exchange.ErrTerms},
		{"keyed: a garbage cell", with(func(c *fraud.Keyed) { c.Evidence.Sealed = make([]byte, exchange.CellSize) }), exchange.ErrTerms},
		{"keyed: a cell cut off", with(func(c *fraud.Keyed) { c.Evidence.Sealed = c.Evidence.Sealed[:99] }), exchange.ErrTerms},
		{"keyed: other values", with(func(c *fraud.Keyed) { c.Evidence.Out[3]++ }), exchange.ErrTerms},
		{"keyed: another commitment", with(func(c *fraud.Keyed) { c.Promise.Commitment[0]++ }), htlcdash.ErrSignature},
		{"keyed: another file", with(func(c *fraud.Keyed) { c.Promise.File.Root[0]++ }), htlcdash.ErrSignature},
		{"keyed: another hash and its preimage", with(func(c *fraud.Keyed) { c.Promise.Hash, c.Preimage = never.Hash(), never }), htlcdash.ErrSignature},
		{"keyed: the signature of another promise", with(func(c *fraud.Keyed) { c.Signature = other.Signature }), htlcdash.ErrSignature},
		{"keyed: the signature of another key", with(func(c *fraud.Keyed) { c.Signature, _ = c.Promise.Sign(mallory) }), htlcdash.ErrSignature},
		{"keyed: another provider", with(func(c *fraud.Keyed) { c.Provider = mallory.ID() }), htlcdash.ErrSignature},

		{"salted: an honest exchange", sold(false, func(*fraud.Salted) {}), fraud.ErrKept},
		{"salted: a preimage that was never released", sold(false, func(c *fraud.Salted) { c.Preimage = never }), exchange.ErrTerms},
		{"salted: another key hash", sold(false, func(c *fraud.Salted) { c.Promise.KeyHash[0]++ }), htlcdash.ErrSignature},
		{"salted: another salt", sold(false, func(c *fraud.Salted) { c.Promise.Salt[0]++ }), htlcdash.ErrSignature},
		{"salted: another hash and its preimage", sold(false, func(c *fraud.Salted) { c.Promise.Hash, c.Preimage = never.Hash(), never }), htlcdash.ErrSignature},
		{"salted: the signature of another key", sold(true, func(c *fraud.Salted) { c.Signature, _ = c.Promise.Sign(mallory) }), htlcdash.ErrSignature},

		{"sealed: an honest publisher", published(false, func(*fraud.Sealed) {}), fraud.ErrKept},
		{"sealed: no bytes", published(true, func(c *fraud.Sealed) { c.Bytes = nil }), fraud.ErrNoBytes},
		{"sealed: other bytes", published(false, func(c *fraud.Sealed) { c.Bytes = make([]byte, len(c.Bytes)) }), fraud.ErrUnproven},
		{"sealed: another key", published(false, func(c *fraud.Sealed) { c.Key = htlcdash.NewKey([32]byte{1}) }), fraud.ErrUnproven},
		{"sealed: another seal", published(false, func(c *fraud.Sealed) { c.Seal.Plain[0]++ }), htlcdash.ErrCorrupt},
		{"sealed: the seal of another place", published(false, func(c *fraud.Sealed) { c.Index-- }), htlcdash.ErrCorrupt},
		{"sealed: another Representation", published(false, func(c *fraud.Sealed) { c.Representation = "v0" }), htlcdash.ErrCorrupt},
		{"sealed: no such Representation", published(true, func(c *fraud.Sealed) { c.Representation = "x" }), htlcdash.ErrNotFound},
		{"sealed: a path cut off", published(true, func(c *fraud.Sealed) { c.Path = c.Path[1:] }), htlcdash.ErrCorrupt},
		{"sealed: another MPD", published(true, func(c *fraud.Sealed) { c.MPD = append(slices.Clone(c.MPD), ' ') }), htlcdash.ErrSignature},
		{"sealed: signed by another than the MPD names", published(true, func(c *fraud.Sealed) {
			k, err := htlcdash.NewPublisherKey([32]byte{4})
			must(t, err)
			c.Signature, err = k.Sign(htlcdash.IDOf(c.MPD))
			must(t, err)
		}), htlcdash.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := tt.complaint.Judge(nil)
			if !errors.Is(err, fraud.ErrUnproven) || !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if v.Accused != "" || v.Shown != nil {
				t.Errorf("and yet a verdict: %+v", v)
			}
		})
	}
}

// A complaint about a chunk is small, whatever the chunk and the file are.
func TestComplaintIsSmall(t *testing.T) {
	if n := len(keyed(t, 5, garbage).Encode()); n > 5000 {
		t.Errorf("%d bytes", n)
	}
}

func TestParseRefuses(t *testing.T) {
	good := map[string][]byte{
		"keyed": keyed(t, 5, garbage).Encode(), "salted": salted(t, true).Encode(), "sealed": sealed(t, true).Encode(),
	}
	for name, b := range good {
		for _, tt := range []struct {
			name string
			b    []byte
		}{
			{"cut off", b[:len(b)-1]},
			{"half", b[:len(b)/2]},
			{"head only", b[:12]},
			{"one byte more", append(slices.Clone(b), 0)},
			{"another magic", append([]byte("htlcfouL"), b[8:]...)},
			{"another version", append(append(slices.Clone(b[:8]), 0, 2), b[10:]...)},
			{"another kind", append(append(slices.Clone(b[:10]), 0, 9), b[12:]...)},
		} {
			if _, err := fraud.Parse(tt.b); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%s, %s: %v", name, tt.name, err)
			}
		}
	}
	for _, b := range [][]byte{nil, []byte("htlcfoul"), make([]byte, 100)} {
		if _, err := fraud.Parse(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestComplaintsDoNotPrintSecrets(t *testing.T) {
	c := keyed(t, 5, garbage)
	key := c.Preimage.Reveal()
	if s := fmt.Sprintf("%v %+v", c, c); strings.Contains(s, fmt.Sprint(key[:8])[1:20]) || strings.Contains(s, hex.EncodeToString(key[:4])) {
		t.Error("prints the key")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(keyed(f, 5, garbage).Encode())
	f.Add(keyed(f, 5, nil).Encode())
	f.Add(salted(f, true).Encode())
	small := sealed(f, true)
	small.MPD, small.Bytes = []byte("<MPD/>"), nil // the MPD's own parser has a fuzz target of its own
	f.Add(small.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := fraud.Parse(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Error("read in one way, written in another")
		}
		if _, err := c.Judge(nil); err != nil && !errors.Is(err, fraud.ErrUnproven) {
			t.Errorf("judged without a reason: %v", err)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for name, c := range map[string]fraud.Complaint{"keyed": keyed(b, 5, garbage), "salted": salted(b, true), "sealed": sealed(b, true)} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(len(c.Encode())), "bytes")
			for b.Loop() {
				if _, err := c.Judge(nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../spec/vectors/fraud.json"

// vector is a complaint and what must come of it.
type vector struct {
	Name      string `json:"name"`
	Complaint string `json:"complaint"`
	Proven    bool   `json:"proven"`
	Role      string `json:"role,omitempty"`
	Accused   string `json:"accused,omitempty"`
}

func TestVectorsAreCurrent(t *testing.T) {
	bare := sealed(t, true)
	bare.Bytes = nil
	framed := keyed(t, 5, nil)
	framed.Preimage = lightning.NewPreimage([32]byte{0x77})
	var vectors []vector
	for _, c := range []struct {
		name string
		c    fraud.Complaint
	}{
		{"keyed: cell 5 is not the file's", keyed(t, 5, garbage)},
		{"keyed: the first cell is not the file's", keyed(t, 0, garbage0)},
		{"keyed: an honest cell", keyed(t, 5, nil)},
		{"keyed: a key that was never released", framed},
		{"salted: another key than was promised", salted(t, true)},
		{"salted: an honest sale", salted(t, false)},
		{"sealed: another segment than was signed", sealed(t, true)},
		{"sealed: an honest publisher", sealed(t, false)},
		{"sealed: the sealed bytes are missing", bare},
	} {
		v, err := c.c.Judge(nil)
		vectors = append(vectors, vector{c.name, hex.EncodeToString(c.c.Encode()), err == nil, v.Role, v.Accused})
	}
	got, err := json.MarshalIndent(map[string]any{"comment": "spec/11-fraud.md. Complaints are hexadecimal.", "complaints": vectors}, "", "  ")
	must(t, err)
	got = append(got, '\n')
	if *update {
		must(t, os.WriteFile(vectorFile, got, 0o666))
	}
	want, err := os.ReadFile(vectorFile)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code makes now; if that is meant, change spec/11 and run: go test ./internal/fraud -run Vectors -update", vectorFile)
	}
}

func garbage0(sealed []byte) { sealed[0]++ }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

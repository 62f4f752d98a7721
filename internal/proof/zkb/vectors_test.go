package zkb_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/zkb"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../../spec/vectors/proof-zkb.json"

// vectors is spec/vectors/proof-zkb.json: what another prover must make of the
// same randomness, and proofs of few rounds for another verifier.
type vectors struct {
	Comment string   `json:"comment"`
	Proofs  []vector `json:"proofs"`
}

type vector struct {
	System    string      `json:"system"`
	Rounds    int         `json:"rounds"`
	Kind      proof.Kind  `json:"kind"`
	Hash      string      `json:"hash"`
	KeyHash   string      `json:"key_hash,omitempty"`
	Salt      string      `json:"salt,omitempty"`
	Witness   string      `json:"witness"`
	Context   string      `json:"context"`
	Random    string      `json:"random"`
	Challenge string      `json:"challenge"`
	Trits     []int       `json:"trits"` // the first 16
	Round0    roundVector `json:"round_0"`
	Length    int         `json:"length"`
	SHA256    string      `json:"sha256"`
	Proof     []byte      `json:"proof,omitempty"` // base64; of few rounds only
}

type roundVector struct {
	Seeds       []string `json:"seeds"`       // of parties e and e+1
	Tapes       []string `json:"tapes"`       // their first 64 bytes
	Commitments []string `json:"commitments"` // of parties 0, 1, 2
	Results     []string `json:"results"`     // of parties 0, 1, 2
}

func TestVectorsAreCurrent(t *testing.T) {
	v := vectors{Comment: "spec/07-proof-zkb.md. Bytes are hexadecimal, proofs base64. The zkb-test systems prove nothing: they have few rounds, so that whole proofs fit in here."}
	w := [32]byte(bytes.Repeat([]byte{0x11}, 32))
	salt := [32]byte(bytes.Repeat([]byte{0x22}, 32))
	for i, s := range []proof.System{zkb.Rounds(6), zkb.Bits80(), zkb.Bits128()} {
		for _, st := range []proof.Statement{proof.PreimageOf(sha256.Sum256(w[:])), linkOf(w, salt)} {
			random := slices.Concat(bytes.Repeat([]byte{0x33 + byte(i)}, 32), bytes.Repeat([]byte{0x44 + byte(st.Kind)}, 32))
			v.Proofs = append(v.Proofs, vectorOf(t, s, claim{"", st, w}, random))
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the code makes now; if that is meant, change spec/07 and run: go test ./internal/proof/zkb -run Vectors -update", vectorFile)
	}
}

func vectorOf(t *testing.T, s proof.System, c claim, random []byte) vector {
	context := []byte("context of a vector")
	p, err := s.Prove(nil, bytes.NewReader(random), c.st, c.w, context)
	if err != nil {
		t.Fatal(err)
	}
	accepts(t, s, c.st, string(context), p)
	played, err := plainVerify(s.Name(), zkb.RoundsOf(s), c.st, context, p)
	if err != nil {
		t.Fatalf("the plain verifier: %v", err)
	}
	sum := sha256.Sum256(p)
	v := vector{
		System: s.Name(), Rounds: zkb.RoundsOf(s), Kind: c.st.Kind, Hash: hex.EncodeToString(c.st.Hash[:]),
		Witness: hex.EncodeToString(c.w[:]), Context: hex.EncodeToString(context), Random: hex.EncodeToString(random),
		Challenge: hex.EncodeToString(p[challenge:rounds]), Length: len(p), SHA256: hex.EncodeToString(sum[:]),
	}
	if c.st.Kind == proof.Link {
		v.KeyHash, v.Salt = hex.EncodeToString(c.st.KeyHash[:]), hex.EncodeToString(c.st.Salt[:])
	}
	for _, r := range played[:min(16, len(played))] {
		v.Trits = append(v.Trits, r.e)
	}
	for i := range 2 {
		v.Round0.Seeds = append(v.Round0.Seeds, hex.EncodeToString(played[0].seeds[i]))
		v.Round0.Tapes = append(v.Round0.Tapes, hex.EncodeToString(played[0].tapes[i][:64]))
	}
	for i := range 3 {
		v.Round0.Commitments = append(v.Round0.Commitments, hex.EncodeToString(played[0].commits[i]))
		v.Round0.Results = append(v.Round0.Results, hex.EncodeToString(played[0].outs[i]))
	}
	if len(played) < 10 {
		v.Proof = p
		for e := range 3 {
			if !slices.Contains(v.Trits, e) {
				t.Errorf("no round opens party %d first: choose other randomness", e)
			}
		}
	}
	return v
}

// TestPlainVerifier has the verifier that is written from the specification and
// the one of the package agree, on honest proofs and on broken ones.
func TestPlainVerifier(t *testing.T) {
	s := zkb.Rounds(12)
	for _, c := range claims() {
		p, err := s.Prove(nil, rand.Reader, c.st, c.w, []byte("context"))
		if err != nil {
			t.Fatal(err)
		}
		both := func(name string, want bool, st proof.Statement, context string, p []byte) {
			t.Helper()
			ours := s.Verify(st, []byte(context), p)
			_, plain := plainVerify(s.Name(), 12, st, []byte(context), p)
			if (ours == nil) != want || (plain == nil) != want {
				t.Errorf("%s, %s: ours says %v, the plain one %v", c.name, name, ours, plain)
			}
		}
		both("honest", true, c.st, "context", p)
		both("another context", false, c.st, "contex", p)
		lie := c.st
		lie.Hash[3] ^= 4
		both("another digest", false, lie, "context", p)
		fields, round := fieldsOf(c.st.Kind)
		for r := range 12 {
			for _, f := range fields {
				p[rounds+r*round+f.at+f.size/2] ^= 8
				both(f.name, false, c.st, "context", p)
				p[rounds+r*round+f.at+f.size/2] ^= 8
			}
		}
	}
}

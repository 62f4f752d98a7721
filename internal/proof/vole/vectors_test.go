package vole_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../../spec/vectors/proof-vole.json"

// vectors is spec/vectors/proof-vole.json: what another implementation must make
// from the same randomness, and accept.
type vectors struct {
	Comment     string              `json:"comment"`
	Proofs      []proofVector       `json:"proofs"`
	Interactive []interactiveVector `json:"interactive"`
}

type statementVector struct {
	System  string `json:"system"`
	Kind    int    `json:"kind"`
	Hash    string `json:"hash"`
	KeyHash string `json:"key_hash,omitempty"`
	Salt    string `json:"salt,omitempty"`
	Witness string `json:"witness"`
	Context string `json:"context"`
	Seed    string `json:"seed"`
}

type proofVector struct {
	statementVector
	First  string `json:"first"`
	Second string `json:"second"`
	Bound  string `json:"bound"`
	Length int    `json:"length"`
	Digest string `json:"sha256"`
	Proof  []byte `json:"proof,omitempty"`
}

type interactiveVector struct {
	statementVector
	MessageDigest string `json:"message_sha256"`
	Challenge     string `json:"challenge"`
	AnswerDigest  string `json:"answer_sha256"`
}

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func vectorOf(system string, st proof.Statement, w [32]byte, context string) statementVector {
	v := statementVector{
		System: system, Kind: int(st.Kind), Hash: hex.EncodeToString(st.Hash[:]),
		Witness: hex.EncodeToString(w[:]), Context: context, Seed: system,
	}
	if st.Kind == proof.Link {
		v.KeyHash, v.Salt = hex.EncodeToString(st.KeyHash[:]), hex.EncodeToString(st.Salt[:])
	}
	return v
}

func TestVectorsAreCurrent(t *testing.T) {
	const context = "provider and nonce"
	w, salt := sha256.Sum256([]byte("witness")), sha256.Sum256([]byte("salt"))
	v := vectors{Comment: "spec/06-proof.md. Randomness is SHAKE128 of the seed, a string; all else is hexadecimal, but proofs are base64."}
	for _, st := range []proof.Statement{proof.PreimageOf(sha256.Sum256(w[:])), linkOf(w, salt)} {
		for _, s := range systems {
			p, ch := s.Trace(seeded(s.Name()), st, w, []byte(context))
			accepted(t, s, st, []byte(context), p)
			pv := proofVector{
				statementVector: vectorOf(s.Name(), st, w, context),
				First:           hex.EncodeToString(ch.First[:]),
				Second:          hex.EncodeToString(ch.Second[:]),
				Bound:           hex.EncodeToString(ch.Bound[:]),
				Length:          len(p),
				Digest:          digest(p),
			}
			if s == vole.Bits80Small && st.Kind == proof.Preimage {
				pv.Proof = p
			}
			v.Proofs = append(v.Proofs, pv)
		}
		v.Interactive = append(v.Interactive, interactiveVectorOf(t, st, w, context))
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not current: run the test with -update and look at the difference", vectorFile)
	}
}

func interactiveVectorOf(t *testing.T, st proof.Statement, w [32]byte, context string) interactiveVector {
	t.Helper()
	s := vole.Bits40
	random := seeded(s.Name())
	message, session, err := s.Begin(nil, random, st, w, []byte(context))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.NewVerifier(st, []byte(context), message)
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := v.Challenge(random)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := session.Answer(nil, challenge)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Check(answer); err != nil {
		t.Fatal(err)
	}
	return interactiveVector{vectorOf(s.Name(), st, w, context), digest(message), hex.EncodeToString(challenge), digest(answer)}
}

// A proof that was written down is accepted, too.
func TestVectorsAreAccepted(t *testing.T) {
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, p := range v.Proofs {
		if p.Proof == nil {
			continue
		}
		whole++
		hash, err := hex.DecodeString(p.Hash)
		if err != nil {
			t.Fatal(err)
		}
		st := proof.PreimageOf([32]byte(hash))
		accepted(t, vole.Bits80Small, st, []byte(p.Context), p.Proof)
		refused(t, "another context", vole.Bits80Small, st, []byte(p.Context+"."), p.Proof)
	}
	if whole != 1 {
		t.Errorf("%d whole proofs", whole)
	}
}

package exchange

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"htlcdash"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
)

// domainProof opens the context that a proof of a salted sale is bound to.
const domainProof = "htlcdash/proof-context/v1"

// Bounds on requests for proofs and keys.
const (
	MaxProofs     = 8       // in one [ProofRequest]
	MaxProofBytes = 2 << 20 // of one proof
	MaxSales      = 64      // in one [KeyRequest]
)

// ProofDeadline is how long a viewer waits for a proof after it has named its
// nonce. A proof of 80 bits is as good as its deadline is short: what a forger
// can try is what it can compute until then (spec/05, proofs).
const ProofDeadline = 5 * time.Second

// ErrUnproved means that nothing shows that the preimage of an offer will open
// the segment: there is no proof, or one that does not verify. Nothing was paid.
var ErrUnproved = fmt.Errorf("offer is not proved: %w", ErrTerms)

// A SaleID names an offer to the one whom it was made to, together with the
// credential: salt, payment hash and preimage are derived from it again.
type SaleID struct {
	Sealed  htlcdash.Root  `json:"sealed"`
	Price   lightning.Msat `json:"price_msat"`
	Counter int64          `json:"counter"`
}

// ID names o.
func (o Offer) ID() SaleID { return SaleID{o.Sealed, o.Price, o.Counter} }

// A ProofRequest asks for the proofs of at most [MaxProofs] open offers. Its
// nonce is fresh: it is what keeps proofs from being made before they are asked
// for, or for others.
type ProofRequest struct {
	Title  htlcdash.TitleID `json:"title"`
	System string           `json:"system"`
	Nonce  Nonce            `json:"nonce"`
	Sales  []SaleID         `json:"sales"`
}

// A KeyRequest asks again for what was sold, by a buyer whose wallet gave no
// preimage.
type KeyRequest struct {
	Title htlcdash.TitleID `json:"title"`
	Sales []SaleID         `json:"sales"`
}

// A KeyResponse answers a [KeyRequest]: the preimage of each sale, in
// hexadecimal, or an empty string where the provider has not been paid.
type KeyResponse struct {
	Preimages []string `json:"preimages"`
}

// ParseProofRequest reads the wire form, JSON and nothing after it. The error
// matches [htlcdash.ErrFormat].
func ParseProofRequest(b []byte) (r ProofRequest, err error) {
	if err := unmarshal(b, MaxRequestBytes, "proof request", &r); err != nil {
		return r, err
	}
	if r.Nonce == (Nonce{}) {
		return r, malformed("proof request without a nonce")
	}
	return r, checkSales(r.Title, r.Sales, MaxProofs)
}

// ParseKeyRequest reads the wire form, JSON and nothing after it. The error
// matches [htlcdash.ErrFormat].
func ParseKeyRequest(b []byte) (r KeyRequest, err error) {
	if err := unmarshal(b, 2*MaxRequestBytes, "key request", &r); err != nil {
		return r, err
	}
	return r, checkSales(r.Title, r.Sales, MaxSales)
}

func checkSales(title htlcdash.TitleID, sales []SaleID, limit int) error {
	if n := len(sales); n == 0 || n > limit {
		return malformed("request for %d sales, want 1 to %d", n, limit)
	}
	if title == (htlcdash.TitleID{}) {
		return malformed("request without a title")
	}
	for _, s := range sales {
		if s.Price <= 0 || s.Price > htlcdash.MaxPrice {
			return malformed("sale at %d msat", int64(s.Price))
		}
	}
	return nil
}

// ParseKeyResponse reads the answer to r. The error matches
// [htlcdash.ErrFormat]; it never quotes a preimage. A preimage that was not
// given is zero.
func ParseKeyResponse(b []byte, r KeyRequest) ([]lightning.Preimage, error) {
	var resp KeyResponse
	if len(b) > MaxRequestBytes {
		return nil, malformed("keys of %d bytes, at most %d", len(b), MaxRequestBytes)
	}
	if json.Unmarshal(b, &resp) != nil {
		return nil, malformed("keys are not JSON")
	}
	if len(resp.Preimages) != len(r.Sales) {
		return nil, malformed("%d keys for %d sales", len(resp.Preimages), len(r.Sales))
	}
	out := make([]lightning.Preimage, len(r.Sales))
	for i, s := range resp.Preimages {
		if s == "" {
			continue
		}
		p, err := lightning.ParsePreimage(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, htlcdash.ErrFormat)
		}
		out[i] = p
	}
	return out, nil
}

// WriteProofs writes the answer to a [ProofRequest]: each proof with its
// length before it, as 4 bytes, big-endian. An empty proof is none.
func WriteProofs(w io.Writer, proofs [][]byte) error {
	for _, p := range proofs {
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p)))); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// ReadProof reads the next proof that [WriteProofs] wrote. The error matches
// [htlcdash.ErrFormat] if the next proof is too long, and io.EOF after the last.
func ReadProof(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxProofBytes {
		return nil, malformed("proof of %d bytes, at most %d", n, MaxProofBytes)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	return p, nil
}

// statement is what a proof shows of an offer for seal.
func (o Offer) statement(seal htlcdash.Seal) proof.Statement {
	return proof.LinkOf(seal.KeyHash, o.Salt, o.Hash)
}

// proofContext binds a proof to who gives it and who asked for it.
func proofContext(p htlcdash.ProviderID, seg htlcdash.Segment, nonce Nonce) []byte {
	b := append([]byte(domainProof), p[:]...)
	b = append(b, seg.Title[:]...)
	b = append(b, seg.Sealed[:]...)
	return append(b, nonce[:]...)
}

// Prove shows that the preimage of o.Hash and the salt give the key of seg, to
// the one who drew nonce. Only o.Salt and o.Hash are used. The error matches
// [proof.ErrFalse] if they do not.
func (Salted) Prove(sys proof.System, p htlcdash.ProviderID, seg htlcdash.Segment, o Offer, key htlcdash.Key, nonce Nonce) ([]byte, error) {
	dst := make([]byte, 0, sys.Length(proof.Link))
	return sys.Prove(dst, rand.Reader, o.statement(seg.Seal), key.Reveal(), proofContext(p, seg, nonce))
}

// Verify returns nil if pf shows that paying o, an offer of the provider p, buys
// the key of seg, whatever p does: the preimage that settles the payment opens
// the segment. Where o names another prover, it must have made pf. The error
// matches [ErrUnproved].
func (Salted) Verify(sys proof.System, p htlcdash.ProviderID, seg htlcdash.Segment, o Offer, nonce Nonce, pf []byte) error {
	if o.Prover != (htlcdash.ProviderID{}) {
		p = o.Prover
	}
	if err := sys.Verify(o.statement(seg.Seal), proofContext(p, seg, nonce), pf); err != nil {
		return fmt.Errorf("%w: %w", ErrUnproved, err)
	}
	return nil
}

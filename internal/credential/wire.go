package credential

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	"github.com/cloudflare/circl/zk/dleq"
)

// Sizes on the wire, in bytes: RFC 9578, 8.1, for ristretto255-SHA512.
const (
	tokenType    = 0x0005
	elementBytes = 32 // Ne
	sharedBytes  = 64 // Nk
	proofBytes   = 2 * 32
	inputBytes   = 2 + 32 + 32 + 32 // token_type, nonce, challenge_digest, token_key_id
)

// MaxBatch is how many tokens one request asks for at most.
const MaxBatch = 32

// Bounds of the messages, for who reads them from a peer.
const (
	MaxRequestBytes  = 2 + 1 + 2 + MaxBatch*elementBytes
	MaxResponseBytes = 2 + MaxBatch*elementBytes + proofBytes
)

// Media types of the messages, draft-ietf-privacypass-batched-tokens.
const (
	MediaTypeRequest  = "application/private-token-amortized-batch-request"
	MediaTypeResponse = "application/private-token-amortized-batch-response"
)

// issuerName stands where RFC 9577 has the host of the issuer. A provider may
// be reached under many names, and is known by its keys.
const issuerName = "htlcdash"

// Media types of the messages (RFC 9578, 8.2; the draft's for batches).
const (
	RequestType  = "application/private-token-amortized-batch-request"
	ResponseType = "application/private-token-amortized-batch-response"
)

var suite = oprf.SuiteRistretto255

// challenge is the TokenChallenge of RFC 9577, 2.1.1, the same for all: no
// redemption context, since tokens are got ahead, and no origin, since issuer
// and origin are one.
func challenge() []byte {
	b := binary.BigEndian.AppendUint16(nil, tokenType)
	b = binary.BigEndian.AppendUint16(b, uint16(len(issuerName)))
	b = append(b, issuerName...)
	return append(b, 0, 0, 0) // redemption_context<0..32>, origin_info<0..2^16-1>
}

// Challenge is the value of WWW-Authenticate in a 401 (RFC 9577, 2.1).
func (k PublicKey) Challenge() string {
	return Scheme + ` challenge="` + base64.URLEncoding.EncodeToString(challenge()) +
		`", token-key="` + base64.URLEncoding.EncodeToString(k[:]) + `"`
}

// input is what the VOPRF is evaluated at: RFC 9578, "token_input".
func (t Token) input() []byte {
	digest := sha256.Sum256(challenge())
	b := make([]byte, 0, inputBytes+sharedBytes)
	b = binary.BigEndian.AppendUint16(b, tokenType)
	b = append(b, t.Nonce[:]...)
	b = append(b, digest[:]...)
	return append(b, t.KeyID[:]...)
}

func parseInput(b []byte) (Token, error) {
	if len(b) != inputBytes {
		return Token{}, malformed("token of %d bytes, want %d", len(b), inputBytes)
	}
	t := Token{Nonce: [32]byte(b[2:34]), KeyID: KeyID(b[66:98])}
	if subtle.ConstantTimeCompare(b, t.input()) != 1 {
		return Token{}, malformed("token of another type or for another challenge")
	}
	return t, nil
}

// A request is AmortizedBatchTokenRequest of
// draft-ietf-privacypass-batched-tokens:
//
//	token_type u16 | truncated_token_key_id u8 | <varint length> blinded elements
func appendRequest(id KeyID, elements []oprf.Blinded) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, tokenType)
	return appendElements(append(b, id[31]), elements)
}

func parseRequest(b []byte) (truncated byte, elements []oprf.Blinded, err error) {
	if len(b) < 3 {
		return 0, nil, malformed("request of %d bytes", len(b))
	}
	if t := binary.BigEndian.Uint16(b); t != tokenType {
		return 0, nil, malformed("token type %#04x, want %#04x", t, tokenType)
	}
	elements, rest, err := parseElements(b[3:])
	if err == nil && len(rest) > 0 {
		err = malformed("%d bytes after the request", len(rest))
	}
	return b[2], elements, err
}

// A response is AmortizedBatchTokenResponse of the same draft:
//
//	<varint length> evaluated elements | proof (c, s)
func appendResponse(e *oprf.Evaluation) ([]byte, error) {
	proof, err := e.Proof.MarshalBinary()
	if err != nil {
		return nil, err
	}
	b, err := appendElements(nil, e.Elements)
	return append(b, proof...), err
}

func parseResponse(b []byte) (*oprf.Evaluation, error) {
	elements, rest, err := parseElements(b)
	if err != nil {
		return nil, err
	}
	proof := new(dleq.Proof)
	if err := proof.UnmarshalBinary(group.Ristretto255, rest); err != nil {
		return nil, malformed("proof of %d bytes is not two scalars", len(rest))
	}
	return &oprf.Evaluation{Elements: elements, Proof: proof}, nil
}

// appendElements writes the elements and, in front, how many bytes they are:
// a variable-length integer of RFC 9000, 16, in its shortest form only.
func appendElements(b []byte, elements []group.Element) ([]byte, error) {
	b = appendVarint(b, len(elements)*elementBytes)
	for _, e := range elements {
		raw, err := e.MarshalBinaryCompress()
		if err != nil {
			return nil, err
		}
		b = append(b, raw...)
	}
	return b, nil
}

func parseElements(b []byte) (elements []group.Element, rest []byte, err error) {
	n, b, err := cutVarint(b)
	switch {
	case err != nil:
		return nil, nil, err
	case n == 0 || n > MaxBatch*elementBytes || n%elementBytes != 0:
		return nil, nil, malformed("%d bytes of elements, want 1 to %d times %d", n, MaxBatch, elementBytes)
	case len(b) < n:
		return nil, nil, malformed("cut off after %d bytes of elements, want %d", len(b), n)
	}
	for raw := range slicesOf(b[:n]) {
		e, err := parseElement(raw)
		if err != nil {
			return nil, nil, err
		}
		elements = append(elements, e)
	}
	return elements, b[n:], nil
}

func slicesOf(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) > 0 && yield(b[:elementBytes]); b = b[elementBytes:] {
		}
	}
}

// parseElement is DeserializeElement of RFC 9497, 4.1: only the one encoding
// of an element, and no identity.
func parseElement(b []byte) (group.Element, error) {
	e := group.Ristretto255.NewElement()
	if len(b) != elementBytes || e.UnmarshalBinary(b) != nil || e.IsIdentity() {
		return nil, malformed("not an element of ristretto255")
	}
	if again, err := e.MarshalBinaryCompress(); err != nil || !bytes.Equal(again, b) {
		return nil, malformed("not the canonical encoding of an element")
	}
	return e, nil
}

// decode checks that k is a key.
func (k PublicKey) decode() (*oprf.PublicKey, error) {
	if _, err := parseElement(k[:]); err != nil {
		return nil, err
	}
	out := new(oprf.PublicKey)
	if err := out.UnmarshalBinary(suite, k[:]); err != nil {
		return nil, malformed("not a public key")
	}
	return out, nil
}

// appendVarint writes n < 2^14 in its shortest form.
func appendVarint(b []byte, n int) []byte {
	if n < 1<<6 {
		return append(b, byte(n))
	}
	return binary.BigEndian.AppendUint16(b, 1<<14|uint16(n))
}

// cutVarint reads a length below 2^14, as the bound on a batch makes all be.
func cutVarint(b []byte) (n int, rest []byte, err error) {
	switch {
	case len(b) >= 1 && b[0] < 1<<6:
		return int(b[0]), b[1:], nil
	case len(b) >= 2 && b[0]>>6 == 1:
		if n = int(binary.BigEndian.Uint16(b)) &^ (1 << 14); n >= 1<<6 {
			return n, b[2:], nil
		}
	}
	return 0, nil, malformed("length is cut off, too long, or not in its shortest form")
}

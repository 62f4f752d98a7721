package credential

import (
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
)

// Challenge is what all tokens are for.
var Challenge = challenge

// Input is what the VOPRF is evaluated at for a token.
func (t Token) Input() []byte { return t.input() }

// Reveal gives the secret.
func (s Shared) Reveal() []byte { return s.key() }

// NewIssuerKeyOf makes a key of an encoded scalar.
func NewIssuerKeyOf(scalar []byte) (IssuerKey, error) {
	key := new(oprf.PrivateKey)
	if err := key.UnmarshalBinary(suite, scalar); err != nil {
		return IssuerKey{}, err
	}
	return newIssuerKey(key, 0)
}

// BlindWith makes a request for given inputs of the VOPRF, tokens or not, with
// given blinds.
func BlindWith(pub PublicKey, inputs, blinds [][]byte) ([]byte, *Pending, error) {
	scalars := make([]oprf.Blind, len(blinds))
	for i, b := range blinds {
		scalars[i] = group.Ristretto255.NewScalar()
		if err := scalars[i].UnmarshalBinary(b); err != nil {
			return nil, nil, err
		}
	}
	return blind(pub, make([]Token, len(inputs)), inputs, scalars)
}

// RedeemInput computes the secret of any input of the VOPRF.
func (k IssuerKey) RedeemInput(input []byte) Shared {
	out, err := k.b.server.FullEvaluate(input)
	if err != nil {
		panic(err)
	}
	return newShared(out)
}

// Blinds are the blinds of p, encoded.
func (p *Pending) Blinds() (out [][]byte) {
	for _, s := range p.b.blinds.CopyBlinds() {
		b, err := s.MarshalBinary()
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return out
}

// RewriteRequest parses and writes a request.
func RewriteRequest(b []byte) ([]byte, error) {
	truncated, elements, err := parseRequest(b)
	if err != nil {
		return nil, err
	}
	return appendRequest(KeyID{31: truncated}, elements)
}

// RewriteResponse parses and writes a response.
func RewriteResponse(b []byte) ([]byte, error) {
	e, err := parseResponse(b)
	if err != nil {
		return nil, err
	}
	return appendResponse(e)
}

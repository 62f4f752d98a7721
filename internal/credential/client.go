package credential

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
)

// domainBlind makes scalars out of random bytes.
const domainBlind = "htlcdash/blind/v1"

// A Pending is a request whose response is awaited: tokens and the blinds that
// hide them. It never prints. It may be finished more than once, but not at
// once from many goroutines.
type Pending struct {
	_ [0]func()
	b *pending
}

type pending struct {
	client oprf.VerifiableClient
	tokens []Token
	blinds *oprf.FinalizeData
}

func (*Pending) String() string { return "pending tokens" }

// LogValue keeps p out of logs.
func (p *Pending) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Blind makes a request for n tokens, 1 to [MaxBatch], of the key pub. All
// nonces and blinds come from rand. Each element of the request is uniform and
// independent of its token, whatever the provider does (RFC 9497, 7.1). The
// error matches htlcdash.ErrFormat if pub is no key; else it is that of rand.
func Blind(pub PublicKey, n int, rand io.Reader) (request []byte, p *Pending, err error) {
	if n < 1 || n > MaxBatch {
		return nil, nil, fmt.Errorf("credential: %d tokens asked for, want 1 to %d", n, MaxBatch)
	}
	id, tokens, inputs, blinds := pub.ID(), make([]Token, n), make([][]byte, n), make([]oprf.Blind, n)
	for i := range n {
		var b [96]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return nil, nil, fmt.Errorf("randomness for tokens: %w", err)
		}
		tokens[i] = Token{Nonce: [32]byte(b[:32]), KeyID: id}
		inputs[i] = tokens[i].input()
		blinds[i] = group.Ristretto255.HashToScalar(b[32:], []byte(domainBlind))
	}
	return blind(pub, tokens, inputs, blinds)
}

func blind(pub PublicKey, tokens []Token, inputs [][]byte, blinds []oprf.Blind) ([]byte, *Pending, error) {
	key, err := pub.decode()
	if err != nil {
		return nil, nil, err
	}
	client := oprf.NewVerifiableClient(suite, key)
	data, req, err := client.DeterministicBlind(inputs, blinds)
	if err != nil {
		return nil, nil, fmt.Errorf("blinding tokens: %w", err) // a blind of zero
	}
	request, err := appendRequest(pub.ID(), req.Elements)
	return request, &Pending{b: &pending{client, tokens, data}}, err
}

// Finish makes credentials of the response. The error matches [ErrIssuer] if
// the proof does not hold, and htlcdash.ErrFormat if the response cannot be
// read or is for another number of tokens. There are no credentials then, not
// even some.
func (p *Pending) Finish(response []byte) ([]Credential, error) {
	e, err := parseResponse(response)
	if err != nil {
		return nil, err
	}
	if len(e.Elements) != len(p.b.tokens) {
		return nil, malformed("response for %d tokens, want %d", len(e.Elements), len(p.b.tokens))
	}
	outputs, err := p.b.client.Finalize(p.b.blinds, e)
	if errors.Is(err, oprf.ErrInvalidProof) {
		return nil, fmt.Errorf("key %s: %w", p.b.tokens[0].KeyID, ErrIssuer)
	}
	if err != nil {
		return nil, fmt.Errorf("token response: %w", err)
	}
	out := make([]Credential, len(outputs))
	for i, o := range outputs {
		out[i] = Credential{Token: p.b.tokens[i], Shared: newShared(o)}
	}
	return out, nil
}

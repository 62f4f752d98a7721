package zkb

import (
	"crypto/subtle"
	"fmt"

	"htlcdash/internal/proof"
)

// Reasons for which a proof is refused.
var (
	ErrForm      = errForm
	ErrOutput    = errOutput
	ErrChallenge = errChallenge
)

// Rounds is a system of few rounds, which proves little.
func Rounds(n int) proof.System { return system{fmt.Sprintf("zkb-test-%d", n), n} }

// RoundsOf is how many rounds a system has.
func RoundsOf(s proof.System) int { return s.(system).rounds }

// A Cheat is a prover that has committed but may still lie about it.
type Cheat struct{ p *prover }

// Commit plays the parties honestly for w, whatever the statement says.
func Commit(s proof.System, st proof.Statement, w, salt, root [32]byte) Cheat {
	return Cheat{s.(system).commit(st, w, salt, root)}
}

// Overwrite makes the claimed digest appear by changing what party 0 shows for
// its results, in all rounds.
func (c Cheat) Overwrite() {
	for t := range c.p.shown {
		out := targets(c.p.st)
		for _, other := range c.p.shown[t][1:] {
			subtle.XORBytes(out, out, other.out)
		}
		c.p.shown[t][0].out = out
	}
}

// Bend has party t%3 of each round t miscompute the last gate of a hash, so that
// the top bit of the digest's word 4 is another. It shows if that party is the
// first of two to be opened, and only then: its view is recomputed then, and
// taken as it is else.
func (c Cheat) Bend(hash int) {
	b := newBinder(c.p.salt)
	gate := (hash+1)*gatesPerHash - 1
	for t := range c.p.parties {
		i := t % 3
		bent := c.p.parties[t][i]
		bent.view(c.p.shape)[gate/8] ^= 1 << (gate % 8)
		bent.out[hash*hashSize+16] ^= 0x80
		c.p.shown[t][i].commit = b.commit(c.p.shape, t, i, bent)
	}
}

// Finish lets the challenge be drawn, and answers it.
func (c Cheat) Finish(context []byte) []byte { return c.p.answer(nil, c.p.challenge(context)) }

// Gates is how many gates the circuit of a statement takes.
func Gates(st proof.Statement) int {
	m := newMachine(4 * gatesPerHash)
	m.run(st)
	return m.at - inputBits
}

// GatesPerHash is how many it should take for each hash.
const GatesPerHash = gatesPerHash

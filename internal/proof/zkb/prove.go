package zkb

import (
	"slices"

	"htlcdash/internal/proof"
)

// A prover has played all rounds and committed to them.
type prover struct {
	shape
	system  system
	st      proof.Statement
	salt    [saltSize]byte
	parties [][3]party // of each round
	shown   [][3]shown
}

// commit plays the rounds. All seeds come from root, and with salt and w alone
// fix everything but the challenge.
func (s system) commit(st proof.Statement, w, salt, root [32]byte) *prover {
	p := &prover{
		shape: shapeOf(st.Kind), system: s, st: st, salt: salt,
		parties: make([][3]party, s.rounds), shown: make([][3]shown, s.rounds),
	}
	seeds := make([]byte, 3*s.rounds*seedSize)
	stream(seeds, root)
	tapes := make([]byte, 3*s.rounds*p.tapeSize())
	outs := make([]byte, 3*s.rounds*p.outSize())
	for t := range p.parties {
		for i := range p.parties[t] {
			n := 3*t + i
			p.parties[t][i] = party{part(seeds, n, seedSize), part(tapes, n, p.tapeSize()), part(outs, n, p.outSize())}
		}
	}
	b, m := newBinder(salt), newMachine(p.gates())
	m.one = bit{x0: ^uint64(0)}
	for first := 0; first < s.rounds; first += batch {
		p.play(b, m, first, min(batch, s.rounds-first), w)
	}
	return p
}

// part is the n-th part of size bytes.
func part(b []byte, n, size int) []byte { return b[n*size:][:size:size] }

// play plays n rounds at once.
func (p *prover) play(b *binder, m *machine, first, n int, w [32]byte) {
	var tapes, outs [3][][]byte
	for t := first; t < first+n; t++ {
		for i, party := range p.parties[t] {
			b.grow(t, i, party)
			tapes[i] = append(tapes[i], party.tape)
			outs[i] = append(outs[i], party.out)
		}
		x0, x1, x2 := p.parties[t][0].input(), p.parties[t][1].input(), p.parties[t][2].input()
		for j := range w {
			x2[j] = w[j] ^ x0[j] ^ x1[j]
		}
	}
	for i := range tapes {
		toLanes(m.tapes[i], tapes[i])
	}
	for i, out := range m.run(p.st) {
		toRows(tapes[i], m.tapes[i])
		toRows(outs[i], out)
	}
	for t := first; t < first+n; t++ {
		for i, party := range p.parties[t] {
			p.shown[t][i] = shown{b.commit(p.shape, t, i, party), party.out}
		}
	}
}

func (p *prover) challenge(context []byte) [hashSize]byte {
	return draw(p.system, p.st, p.salt, context, p.shown)
}

// answer appends the proof: it opens in each round the parties that the
// challenge names, and no more.
func (p *prover) answer(dst []byte, challenge [hashSize]byte) []byte {
	size := p.system.rounds * p.roundSize()
	dst = slices.Grow(dst, headerSize+saltSize+hashSize+size)
	dst = append(dst, p.header(p.system.rounds)...)
	dst = append(dst, p.salt[:]...)
	dst = append(dst, challenge[:]...)
	rounds := dst[len(dst):][:size]
	for t, e := range trits(challenge, p.system.rounds) {
		o, parties, hidden := p.opening(rounds, t), p.parties[t], p.shown[t][(e+2)%3]
		copy(o.seeds[0], parties[e].seed)
		copy(o.seeds[1], parties[(e+1)%3].seed)
		clear(o.input)
		if e != 0 {
			copy(o.input, parties[2].input())
		}
		copy(o.view, parties[(e+1)%3].view(p.shape))
		copy(o.commit, hidden.commit[:])
		copy(o.out, hidden.out)
	}
	return dst[:len(dst)+size]
}

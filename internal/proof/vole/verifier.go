package vole

import (
	"crypto/subtle"

	"htlcdash/internal/proof"
)

// fields are the parts of a message, of which all lengths are right.
type fields struct {
	head        []byte // header, salt, corrections
	corrections []byte
	digest      []byte // of u
	masked      []byte // witness
	a           [3]elem
}

func (sh *shape) fields(message []byte) (f fields, err error) {
	if [headerLen]byte(message) != sh.header {
		return f, refused("of another version, system or kind")
	}
	next := func(n int) (b []byte) {
		b, message = message[:n], message[n:]
		return b
	}
	f.head = next(sh.headLen())
	f.corrections = f.head[headerLen+saltLen:]
	f.digest = next(digestLen)
	f.masked = next(4 * sh.circuit.witness)
	f.a[1], f.a[2] = loadElem(next(elemLen)), loadElem(next(elemLen))
	return f, nil
}

// verify checks a proof of the right length. All that a proof says goes into
// the last challenge, so one comparison is enough.
func (sh *shape) verify(st proof.Statement, context, p []byte) error {
	f, err := sh.fields(p)
	if err != nil {
		return err
	}
	openings := p[sh.messageLen():][:sh.openingsLen()]
	end := p[sh.messageLen()+sh.openingsLen():]
	last, counter := [challengeLen]byte(end), [counterLen]byte(end[challengeLen:])
	if !sh.rare(last) {
		return refused("the challenge is not rare")
	}
	if lastChallenge(sh.bound(st, context, f, sh.hidden(last[:]), openings), counter) != last {
		return refused("the challenge is another")
	}
	return nil
}

// bound gives the hash of what a prover must have said before the last challenge
// to answer it with the openings.
func (sh *shape) bound(st proof.Statement, context []byte, f fields, h hiddenLeaves, openings []byte) [32]byte {
	l, d, kr := sh.loom(), sh.desk(), sh.kernel
	defer sh.looms.Put(l)
	defer sh.desks.Put(d)
	l.tree.setSalt([saltLen]byte(f.head[headerLen:]))
	n := openingLen(sh.depth)
	for i, leaf := range h.leaf {
		l.tree.index = i
		l.tree.regrow(kr, leaf, openings[n*i:n*(i+1)])
		l.fold(kr, sh.depth, i, leaf)
	}
	first := sh.firstChallenge(l.roots, f.head)
	l.hash.draw(kr, first)
	for b, column := range l.columns {
		sh.correct(l, f, h, b)
		digest := l.hash.sum(kr, column)
		if h.bit(b) {
			subtle.XORBytes(digest[:], digest[:], f.digest)
			subtle.XORBytes(column, column[:len(f.masked)], f.masked)
		}
		l.digests = append(l.digests, digest[:]...)
	}
	kr.transpose(l.columns, d.table[:sh.circuit.committed()])
	second := secondChallenge(first, f.digest, l.digests, st, context, f.masked)
	drawWeights(kr, second, d.weight)
	f.a[0] = d.verify(kr, sh.circuit, publicWordsOf(st), h.delta, f.a)
	return bind(second, f.a)
}

// correct makes a column one of the first tree's u.
func (sh *shape) correct(l *loom, f fields, h hiddenLeaves, b int) {
	i := b / sh.depth
	if i == 0 || !h.bit(b) {
		return
	}
	correction := f.corrections[(i-1)*sh.column:][:sh.column]
	subtle.XORBytes(l.columns[b], l.columns[b][:sh.column], correction)
}

package zkb

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	"htlcdash/internal/proof"
)

// Why a proof is refused. All of them come wrapped in [proof.ErrRefused].
var (
	errForm      = errors.New("it has not the one form of a proof")
	errOutput    = errors.New("the parties' results do not add up to the digest")
	errChallenge = errors.New("its challenge does not follow from its commitments")
)

// A replay plays the opened parties of every round once more.
type replay struct {
	shape
	st     proof.Statement
	target []byte // what output shares must add up to
	binder *binder
	m      *machine
	seats  []seat // of the rounds that are played at once
}

// A seat has the two parties that a round opens.
type seat struct {
	e       int
	opening opening
	first   party  // number e: its view is computed
	second  party  // number e+1: its view is given
	masks   []byte // the random tape of number e+1, in the form of a tape
}

// replay returns what the parties of each round show. The error says in which
// round that cannot be what the statement says.
func (s system) replay(st proof.Statement, salt [saltSize]byte, challenge []int, rounds []byte) ([][3]shown, error) {
	shape := shapeOf(st.Kind)
	r := &replay{
		shape: shape, st: st, target: targets(st),
		binder: newBinder(salt), m: newMachine(shape.gates()),
		seats: make([]seat, min(batch, s.rounds)),
	}
	r.m.verify = true
	for i := range r.seats {
		tapes, outs := make([]byte, 3*r.tapeSize()), make([]byte, 2*r.outSize())
		r.seats[i].first = party{tape: part(tapes, 0, r.tapeSize()), out: part(outs, 0, r.outSize())}
		r.seats[i].second = party{tape: part(tapes, 1, r.tapeSize()), out: part(outs, 1, r.outSize())}
		r.seats[i].masks = part(tapes, 2, r.tapeSize())
	}
	all := make([][3]shown, s.rounds)
	for start := 0; start < s.rounds; start += batch {
		seats := r.seats[:min(len(r.seats), s.rounds-start)]
		for i := range seats {
			t := start + i
			if err := r.sit(&seats[i], t, challenge[t], r.opening(rounds, t)); err != nil {
				return nil, fmt.Errorf("%w: round %d: %w", proof.ErrRefused, t, err)
			}
		}
		r.play(seats)
		for i := range seats {
			t := start + i
			if err := r.show(&all[t], &seats[i], t); err != nil {
				return nil, fmt.Errorf("%w: round %d: %w", proof.ErrRefused, t, err)
			}
		}
	}
	return all, nil
}

// sit prepares the parties of round t.
func (r *replay) sit(s *seat, t, e int, o opening) error {
	if used := r.gates() % 8; used != 0 && o.view[len(o.view)-1]>>used != 0 {
		return errForm
	}
	s.e, s.opening = e, o
	s.first.seed, s.second.seed = o.seeds[0], o.seeds[1]
	r.binder.grow(t, e, s.first)
	r.binder.grow(t, (e+1)%3, party{seed: s.second.seed, tape: s.masks})
	switch e {
	case 0:
		if !bytes.Equal(o.input, make([]byte, inputSize)) {
			return errForm
		}
	case 1:
		copy(s.masks, o.input)
	case 2:
		copy(s.first.tape, o.input)
	}
	copy(s.second.tape, s.masks[:inputSize])
	copy(s.second.tape[inputSize:], o.view)
	return nil
}

// play runs the parties of all seats at once.
func (r *replay) play(seats []seat) {
	var tapes [3][][]byte // as the machine wants them
	var outs [2][][]byte
	r.m.one = bit{}
	for i := range seats {
		s := &seats[i]
		tapes[0] = append(tapes[0], s.first.tape)
		tapes[1] = append(tapes[1], s.masks)
		tapes[2] = append(tapes[2], s.second.tape)
		outs[0] = append(outs[0], s.first.out)
		outs[1] = append(outs[1], s.second.out)
		switch s.e { // party 0 holds the public constants
		case 0:
			r.m.one.x0 |= 1 << i
		case 2:
			r.m.one.x1 |= 1 << i
		}
	}
	for i := range tapes {
		toLanes(r.m.tapes[i], tapes[i])
	}
	out := r.m.run(r.st)
	toRows(tapes[0], r.m.tapes[0])
	for i := range outs {
		toRows(outs[i], out[i])
	}
}

// show fills in what the parties of round t show: the opened ones as they were
// played here, the third as the proof says. Their results must add up to what is
// claimed. The claim holds for what is computed here, not for what a prover says
// about it.
func (r *replay) show(all *[3]shown, s *seat, t int) error {
	second, hidden := (s.e+1)%3, (s.e+2)%3
	all[s.e] = shown{r.binder.commit(r.shape, t, s.e, s.first), bytes.Clone(s.first.out)}
	all[second] = shown{r.binder.commit(r.shape, t, second, s.second), bytes.Clone(s.second.out)}
	all[hidden] = shown{[hashSize]byte(s.opening.commit), s.opening.out}
	sum := make([]byte, r.outSize())
	for _, p := range all {
		subtle.XORBytes(sum, sum, p.out)
	}
	if !bytes.Equal(sum, r.target) {
		return errOutput
	}
	return nil
}

package vole

import (
	"fmt"
	"io"
	"sync"

	"htlcdash/internal/proof"
)

// An Interactive is a system whose last challenge comes from the verifier:
//
//	prover                      verifier
//	Begin -> message       ->   NewVerifier
//	Answer                 <-   Challenge
//	answer                 ->   Check
//
// A guess costs an attempt that the verifier sees fail, so less bits do. Its
// methods may be called at once.
type Interactive struct {
	name   string
	shapes func() shapes
}

func newInteractive(id byte, name string, p parameters) *Interactive {
	return &Interactive{name, newShapes(id, name, p)}
}

// Name is what the wire calls the system.
func (s *Interactive) Name() string { return s.name }

// Lengths are the lengths in bytes of message, challenge and answer.
func (s *Interactive) Lengths(k proof.Kind) (message, challenge, answer int) {
	sh := s.shapes()[k]
	if sh == nil {
		return 0, 0, 0
	}
	return sh.messageLen() + challengeLen, sh.columns() / 8, sh.openingsLen()
}

// Begin appends to dst the first message of a proof of st by w. Randomness and
// errors are as in [proof.System].
func (s *Interactive) Begin(dst []byte, rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, *Session, error) {
	sh := s.shapes()[st.Kind]
	if sh == nil || !st.Holds(w) {
		return nil, nil, proof.ErrFalse
	}
	c, err := sh.commit(rand)
	if err != nil {
		return nil, nil, err
	}
	a := c.answer(st, w, context)
	dst = append(dst, a.message...)
	return append(dst, a.bound[:]...), &Session{open: &a}, nil
}

// A Session is a prover's state between message and answer. It answers once.
type Session struct {
	mu   sync.Mutex
	open *answer // nil after use
}

// Answer appends the answer to a challenge. It is given for one challenge only,
// and for none after a malformed one: the error then matches [ErrUsed].
func (s *Session) Answer(dst, challenge []byte) ([]byte, error) {
	s.mu.Lock()
	a := s.open
	s.open = nil
	s.mu.Unlock()
	if a == nil {
		return nil, ErrUsed
	}
	if len(challenge) != a.sh.columns()/8 {
		return nil, fmt.Errorf("a challenge of %d bytes instead of %d", len(challenge), a.sh.columns()/8)
	}
	return a.open(dst, a.sh.hidden(challenge)), nil
}

// A Verifier is a verifier's state from message to answer. It is not for use by
// two at once.
type Verifier struct {
	sh        *shape
	statement proof.Statement
	context   []byte
	fields    fields
	bound     [32]byte
	challenge []byte
	checked   bool
}

// NewVerifier takes a prover's message, which must not change until Check. The
// error matches [proof.ErrRefused].
func (s *Interactive) NewVerifier(st proof.Statement, context, message []byte) (*Verifier, error) {
	sh, err := s.shapes().of(st)
	if err != nil {
		return nil, err
	}
	if want := sh.messageLen() + challengeLen; len(message) != want {
		return nil, refused("%d bytes instead of %d", len(message), want)
	}
	f, err := sh.fields(message)
	if err != nil {
		return nil, err
	}
	bound := [32]byte(message[sh.messageLen():])
	return &Verifier{sh: sh, statement: st, context: context, fields: f, bound: bound}, nil
}

// Challenge draws the challenge from rand, which must be crypto/rand's outside
// of tests. Later calls give the same one.
func (v *Verifier) Challenge(rand io.Reader) ([]byte, error) {
	if v.challenge == nil {
		c := make([]byte, v.sh.columns()/8)
		if _, err := io.ReadFull(rand, c); err != nil {
			return nil, fmt.Errorf("randomness for a challenge: %w", err)
		}
		v.challenge = c
	}
	return v.challenge, nil
}

// Check returns nil if the answer to the challenge shows the statement. Only one
// answer is looked at. The error matches [proof.ErrRefused].
func (v *Verifier) Check(answer []byte) error {
	if v.challenge == nil || v.checked {
		return refused("one answer after one challenge")
	}
	v.checked = true
	if len(answer) != v.sh.openingsLen() {
		return refused("%d bytes instead of %d", len(answer), v.sh.openingsLen())
	}
	if v.sh.bound(v.statement, v.context, v.fields, v.sh.hidden(v.challenge), answer) != v.bound {
		return refused("the answer does not fit the message")
	}
	return nil
}

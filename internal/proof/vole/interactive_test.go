package vole_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// begin gives both sides after the first message.
func begin(t *testing.T, s *vole.Interactive, c provable, context []byte) ([]byte, *vole.Session, *vole.Verifier) {
	t.Helper()
	message, session, err := s.Begin(nil, rand.Reader, c.st, c.w, context)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.NewVerifier(c.st, context, message)
	if err != nil {
		t.Fatal(err)
	}
	return message, session, v
}

func challenge(t *testing.T, v *vole.Verifier) []byte {
	t.Helper()
	d, err := v.Challenge(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestInteractive(t *testing.T) {
	s := vole.Bits40
	for _, c := range cases() {
		message, session, v := begin(t, s, c, []byte("context"))
		d := challenge(t, v)
		if again := challenge(t, v); !bytes.Equal(d, again) {
			t.Error("a verifier gave two challenges")
		}
		answer, err := session.Answer(nil, d)
		if err != nil {
			t.Fatal(err)
		}
		if m, ch, a := s.Lengths(c.st.Kind); m != len(message) || ch != len(d) || a != len(answer) {
			t.Errorf("%s: %d, %d and %d bytes instead of %d, %d and %d", c.name, len(message), len(d), len(answer), m, ch, a)
		}
		if err := v.Check(answer); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := v.Check(answer); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("%s: a second check says %v", c.name, err)
		}
	}
}

// A second answer would show the witness, so there is none, whatever became of
// the first.
func TestSessionsAnswerOnce(t *testing.T) {
	for name, first := range map[string]func(*vole.Session, []byte){
		"answered":            func(s *vole.Session, d []byte) { s.Answer(nil, d) },
		"answered, not sent":  func(s *vole.Session, d []byte) { s.Answer(nil, bytes.Clone(d)) },
		"malformed challenge": func(s *vole.Session, d []byte) { s.Answer(nil, d[1:]) },
		"empty challenge":     func(s *vole.Session, d []byte) { s.Answer(nil, nil) },
		"another challenge":   func(s *vole.Session, d []byte) { s.Answer(nil, make([]byte, len(d))) },
	} {
		_, session, v := begin(t, vole.Bits40, cases()[0], nil)
		d := challenge(t, v)
		first(session, d)
		answer, err := session.Answer(nil, d)
		if !errors.Is(err, vole.ErrUsed) || answer != nil {
			t.Errorf("%s: %d bytes and %v instead of %v", name, len(answer), err, vole.ErrUsed)
		}
	}
}

// Of many that ask at once, one gets an answer.
func TestSessionsAnswerOneOfMany(t *testing.T) {
	_, session, v := begin(t, vole.Bits40, cases()[0], nil)
	d := challenge(t, v)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := session.Answer(nil, d)
			results <- err
		}()
	}
	answered := 0
	for range 8 {
		if err := <-results; err == nil {
			answered++
		} else if !errors.Is(err, vole.ErrUsed) {
			t.Error(err)
		}
	}
	if answered != 1 {
		t.Errorf("%d answers", answered)
	}
}

func TestWrongAnswersAreRefused(t *testing.T) {
	s, c := vole.Bits40, cases()[1]
	answerTo := func(session *vole.Session, d []byte) []byte {
		a, err := session.Answer(nil, d)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, wrong := range map[string]func(v *vole.Verifier, session *vole.Session) []byte{
		"to another challenge": func(v *vole.Verifier, session *vole.Session) []byte {
			d := bytes.Clone(challenge(t, v))
			d[0] ^= 1
			return answerTo(session, d)
		},
		"of another session": func(v *vole.Verifier, session *vole.Session) []byte {
			_, other, _ := begin(t, s, c, nil)
			return answerTo(other, challenge(t, v))
		},
		"a flipped bit": func(v *vole.Verifier, session *vole.Session) []byte {
			a := answerTo(session, challenge(t, v))
			a[len(a)/2] ^= 8
			return a
		},
		"cut": func(v *vole.Verifier, session *vole.Session) []byte { return answerTo(session, challenge(t, v))[1:] },
		"longer": func(v *vole.Verifier, session *vole.Session) []byte {
			return append(answerTo(session, challenge(t, v)), 0)
		},
		"nothing": func(v *vole.Verifier, session *vole.Session) []byte { challenge(t, v); return nil },
		"before the challenge": func(v *vole.Verifier, session *vole.Session) []byte {
			return answerTo(session, make([]byte, 5))
		},
	} {
		_, session, v := begin(t, s, c, nil)
		if err := v.Check(wrong(v, session)); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("%s: %v instead of %v", name, err, proof.ErrRefused)
		}
		_, session, v = begin(t, s, c, nil)
		if err := v.Check(answerTo(session, challenge(t, v))); err != nil {
			t.Errorf("%s, but right: %v", name, err)
		}
	}
}

// run takes a message, altered or not, to its end.
func run(t *testing.T, s *vole.Interactive, st proof.Statement, context, message []byte, session *vole.Session) error {
	v, err := s.NewVerifier(st, context, message)
	if err != nil {
		return err
	}
	a, err := session.Answer(nil, challenge(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return v.Check(a)
}

func TestWrongMessagesAreRefused(t *testing.T) {
	s, c, context := vole.Bits40, cases()[1], []byte("context")
	n, _, _ := s.Lengths(c.st.Kind)
	other := c.st
	other.Hash[0] ^= 1
	for name, m := range map[string]struct {
		st      proof.Statement
		context string
		alter   func([]byte) []byte
	}{
		"another statement": {st: other, context: "context"},
		"another kind":      {st: proof.PreimageOf(c.st.Hash), context: "context"},
		"unknown kind":      {st: proof.Statement{Kind: 9}, context: "context"},
		"another context":   {st: c.st, context: "contexts"},
		"header":            {c.st, "context", func(m []byte) []byte { m[1]++; return m }},
		"salt":              {c.st, "context", func(m []byte) []byte { m[3] ^= 1; return m }},
		"middle":            {c.st, "context", func(m []byte) []byte { m[n/2] ^= 1; return m }},
		"end":               {c.st, "context", func(m []byte) []byte { m[n-1] ^= 1; return m }},
		"cut":               {c.st, "context", func(m []byte) []byte { return m[:n-1] }},
		"longer":            {c.st, "context", func(m []byte) []byte { return append(m, 0) }},
		"nothing":           {c.st, "context", func(m []byte) []byte { return nil }},
	} {
		message, session, _ := begin(t, s, c, context)
		if m.alter != nil {
			message = m.alter(message)
		}
		if err := run(t, s, m.st, []byte(m.context), message, session); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("%s: %v instead of %v", name, err, proof.ErrRefused)
		}
		message, session, _ = begin(t, s, c, context)
		if err := run(t, s, c.st, context, message, session); err != nil {
			t.Errorf("%s, unaltered: %v", name, err)
		}
	}
}

func TestInteractiveNeedsWitnessAndRandomness(t *testing.T) {
	c := cases()[0]
	_, _, err := vole.Bits40.Begin(nil, rand.Reader, c.st, random(), nil)
	if !errors.Is(err, proof.ErrFalse) {
		t.Errorf("%v instead of %v", err, proof.ErrFalse)
	}
	_, _, err = vole.Bits40.Begin(nil, strings.NewReader(""), c.st, c.w, nil)
	if !errors.Is(err, io.EOF) {
		t.Errorf("%v instead of %v", err, io.EOF)
	}
	_, _, v := begin(t, vole.Bits40, c, nil)
	if _, err := v.Challenge(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Errorf("%v instead of %v", err, io.EOF)
	}
}

// An answer is good for one challenge of all, so that one who knows the challenge
// before the message is the only one who can do without a witness.
func TestInteractiveIsAsStrongAsItsChallenge(t *testing.T) {
	s := vole.NewInteractive(94, "weak", 1, 8)
	w := random()
	c := provable{st: proof.PreimageOf(sha256.Sum256(w[:])), w: w}
	message, session, v := begin(t, s, c, nil)
	d := challenge(t, v)
	a, err := session.Answer(nil, d)
	if err != nil {
		t.Fatal(err)
	}
	believed := 0
	for guess := range 256 {
		v, err := s.NewVerifier(c.st, nil, message)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Challenge(bytes.NewReader([]byte{byte(guess)})); err != nil {
			t.Fatal(err)
		}
		if v.Check(a) == nil {
			believed++
			if byte(guess) != d[0] {
				t.Errorf("the answer to %x passes for one to %x", d, guess)
			}
		}
	}
	if believed != 1 {
		t.Errorf("an answer fits %d challenges", believed)
	}
}

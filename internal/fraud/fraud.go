// Package fraud writes and judges complaints: proofs, for anybody and without
// a network, that a provider or a publisher has cheated.
//
//	keyed   provider   promise + signature + K + one cell    the cell is not the file's
//	salted  provider   promise + signature + P               P xor s is not the content key
//	sealed  publisher  MPD + signature + seal + A + bytes    A opens what is not the segment
//
// Each holds a signature of the accused over what it promised, and a secret
// that only the accused gives away. So nobody can frame: with an honest
// signature the other half does not exist, and with an honest secret neither
// does the signature.
//
// What a complaint does not show: that the one who shows it has paid, or how
// often the accused has cheated; nor who is behind a key. A provider that takes
// no payment and sends nothing, or sends late, leaves no evidence at all.
//
// The formats are told in spec/11-fraud.md. The package is pure.
package fraud

import (
	"encoding/binary"
	"errors"
	"fmt"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// Errors that callers decide on. A complaint that cannot be read matches
// [htlcdash.ErrFormat].
var (
	// ErrUnproven means that a complaint shows nothing against the accused.
	ErrUnproven = errors.New("not proven")
	// ErrKept means that it shows that a promise was kept. It matches
	// [ErrUnproven].
	ErrKept = fmt.Errorf("what was promised was given: %w", ErrUnproven)
	// ErrNoBytes means that a complaint can be judged only with the sealed
	// bytes in hand, which it does not hold. It matches [ErrUnproven].
	ErrNoBytes = fmt.Errorf("the sealed bytes are needed: %w", ErrUnproven)
)

// Kinds of complaints on the wire.
const (
	kindKeyed  = 1
	kindSalted = 2
	kindSealed = 3
)

// The envelope, spec/11-fraud.md: magic, version and kind, then what the kind
// says. All integers are big-endian.
const (
	magic    = "htlcfoul"
	version  = 1
	envelope = len(magic) + 2 + 2
)

// MaxBytes bounds a complaint: an MPD, the largest segment, and little else.
const MaxBytes = dash.MaxSize + htlcdash.MaxSegmentLength + 64<<10

const maxID = 4 << 10 // bytes of a Representation's id

// A Complaint accuses somebody of something.
type Complaint interface {
	// Encode gives the wire form, which [Parse] reads. It holds secrets that
	// were paid for.
	Encode() []byte
	// Judge says what a complaint proves, or by an error that matches
	// [ErrUnproven] why it proves nothing. sealed are the sealed bytes that a
	// [Sealed] names, if it does not hold them; else nil.
	Judge(sealed []byte) (Verdict, error)
}

// A Verdict is what a complaint proves, in words for people.
type Verdict struct {
	Role    string // "provider" or "publisher"
	Accused string // its key
	Charge  string
	Shown   []string // what was checked, in order: the last shows the charge
}

// Keyed accuses a provider of sealing something else than the chunk of a file
// that it sold.
type Keyed struct {
	Provider  htlcdash.ProviderID
	Promise   exchange.ChunkPromise
	Signature [64]byte
	Preimage  lightning.Preimage // "K"
	Evidence  exchange.Evidence
}

// Salted accuses a provider of selling another key than it promised.
type Salted struct {
	Provider  htlcdash.ProviderID
	Promise   exchange.Promise
	Signature [64]byte
	Preimage  lightning.Preimage // "P"
}

// Sealed accuses a publisher of sealing something else than it signed.
type Sealed struct {
	MPD            []byte
	Signature      htlcdash.Signature // over the title
	Representation string
	Index          int
	Seal           htlcdash.Seal
	Path           [][32]byte   // from the seal to the root of its list, which the MPD names
	Key            htlcdash.Key // "A"
	Bytes          []byte       // that are sealed, or nil: they are public, and named by the seal
}

// Judge implements [Complaint].
func (c Keyed) Judge([]byte) (Verdict, error) {
	p := c.Promise
	v := Verdict{
		Role: "provider", Accused: c.Provider.String(),
		Charge: fmt.Sprintf("sold chunk %d of the file %s and sealed something else", p.Index, p.File.Root),
	}
	if err := p.Verify(c.Provider, c.Signature); err != nil {
		return Verdict{}, unproven(err)
	}
	v.show("the provider signed: chunk %d of the file %s of %d bytes, for %v, to who pays %s", p.Index, p.File.Root, p.File.Length, p.Price, p.Hash)
	err := p.Kept(c.Preimage, c.Evidence)
	if !errors.Is(err, exchange.ErrCheated) {
		return Verdict{}, unproven(err)
	}
	v.show("the key is the preimage of that payment: only who takes the money gives it away")
	v.show("the provider signed %d sealed bytes of cell %d, and between which SHA-256 values the open bytes stand", len(c.Evidence.Sealed), c.Evidence.Cell)
	v.show("opened with the key, the bytes lead from the first value to another than the second")
	return v, nil
}

// Judge implements [Complaint].
func (c Salted) Judge([]byte) (Verdict, error) {
	p := c.Promise
	v := Verdict{
		Role: "provider", Accused: c.Provider.String(),
		Charge: fmt.Sprintf("sold the key of the segment %s and gave another", p.Sealed),
	}
	if err := p.Verify(c.Provider, c.Signature); err != nil {
		return Verdict{}, unproven(err)
	}
	v.show("the provider signed: the key of the segment %s of title %s, for %v, to who pays %s", p.Sealed, p.Title, p.Price, p.Hash)
	err := p.Kept(c.Preimage)
	if !errors.Is(err, exchange.ErrCheated) {
		return Verdict{}, unproven(err)
	}
	v.show("the preimage is that of the payment: only who takes the money gives it away")
	v.show("with the salt that was signed it makes a key whose SHA-256 is not the one that was signed")
	return v, nil
}

// Judge implements [Complaint].
func (c Sealed) Judge(sealed []byte) (Verdict, error) {
	v := Verdict{
		Role: "publisher", Accused: c.Signature.Publisher.String(),
		Charge: fmt.Sprintf("sealed something else as segment %d of %q than it signed", c.Index, c.Representation),
	}
	if err := c.signed(); err != nil {
		return Verdict{}, unproven(err)
	}
	v.show("the publisher signed title %s, whose MPD names the seal of this segment", htlcdash.IDOf(c.MPD))
	if c.Bytes != nil {
		sealed = c.Bytes
	}
	if sealed == nil {
		return Verdict{}, fmt.Errorf("%w: %d bytes with the root %s", ErrNoBytes, htlcdash.SealedLength(c.Seal.Length), c.Seal.Sealed)
	}
	if !c.Seal.SealedBlob().Is(sealed) {
		return Verdict{}, fmt.Errorf("the sealed bytes are not those of the seal, %s: %w", c.Seal.Sealed, ErrUnproven)
	}
	v.show("the sealed bytes have the length and the root of the seal")
	if c.Key.IsZero() || !c.Key.Opens(c.Seal) {
		return Verdict{}, fmt.Errorf("the key is not that of the seal: %w", ErrUnproven)
	}
	v.show("the key has the hash of the seal")
	// Open works in place.
	if _, err := c.Seal.Open(c.Key, append([]byte(nil), sealed...)); err == nil {
		return Verdict{}, ErrKept
	}
	v.show("opened with the key, the bytes have another root than the segment %s", c.Seal.Plain)
	return v, nil
}

// signed reports that the publisher did not sign the seal.
func (c Sealed) signed() error {
	if err := c.Signature.Verify(htlcdash.IDOf(c.MPD)); err != nil {
		return err
	}
	m, err := dash.Parse(c.MPD)
	if err != nil {
		return fmt.Errorf("MPD: %w", err)
	}
	if named, ok := m.Publisher(); !ok || named != c.Signature.Publisher {
		return fmt.Errorf("the MPD names another publisher than the one who signed: %w", htlcdash.ErrSignature)
	}
	var pay *dash.Pay
	for _, rep := range m.Representations() {
		if rep.ID != c.Representation {
			continue
		}
		if pay != nil || rep.Pay == nil {
			return fmt.Errorf("representation %q stands twice or is not sealed: %w", rep.ID, htlcdash.ErrFormat)
		}
		pay = rep.Pay
	}
	if pay == nil {
		return fmt.Errorf("representation %q: %w", c.Representation, htlcdash.ErrNotFound)
	}
	return htlcdash.VerifySeal(pay.ListRoot, pay.Count, c.Index, c.Seal, c.Path)
}

func (v *Verdict) show(format string, args ...any) {
	v.Shown = append(v.Shown, fmt.Sprintf(format, args...))
}

func unproven(err error) error {
	if err == nil {
		return ErrKept
	}
	return fmt.Errorf("%w: %w", ErrUnproven, err)
}

func head(kind uint16) []byte {
	b := append(make([]byte, 0, 512), magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	return binary.BigEndian.AppendUint16(b, kind)
}

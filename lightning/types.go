package lightning

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Msat is an amount in thousandths of a satoshi. There is no other unit of
// money in this project.
type Msat int64

// Sat is one satoshi.
const Sat Msat = 1000

// String gives the amount for people: "1500 msat", or "21 sat" if it is whole.
func (m Msat) String() string {
	if m%Sat == 0 && m != 0 {
		return strconv.FormatInt(int64(m/Sat), 10) + " sat"
	}
	return strconv.FormatInt(int64(m), 10) + " msat"
}

// UnmarshalJSON reads what encoding/json writes for m, a whole number of msat.
// A string is read as [ParseMsat] does.
func (m *Msat) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		return m.UnmarshalText([]byte(s))
	}
	return json.Unmarshal(b, (*int64)(m))
}

// UnmarshalText reads what [ParseMsat] reads, so that configuration may say
// "21 sat".
func (m *Msat) UnmarshalText(b []byte) error {
	v, err := ParseMsat(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// ParseMsat reads an amount: "21 sat", "21sat", "1500 msat", "0". A bare number
// other than 0 has no unit and is refused, so that nobody pays a thousandfold.
func ParseMsat(s string) (Msat, error) {
	t := strings.ReplaceAll(strings.TrimSpace(s), "_", "")
	unit := Msat(0)
	switch {
	case strings.HasSuffix(t, "msat"):
		t, unit = strings.TrimSuffix(t, "msat"), 1
	case strings.HasSuffix(t, "sat"):
		t, unit = strings.TrimSuffix(t, "sat"), Sat
	case t == "0":
		return 0, nil
	default:
		return 0, fmt.Errorf("amount %q has no unit: write %q or %q", s, t+" sat", t+" msat")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(t), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(unit) {
		return 0, fmt.Errorf("amount %q: want a whole number of sat or msat, such as \"21 sat\"", s)
	}
	return Msat(n) * unit, nil
}

// Hash is a payment hash: SHA-256 of a [Preimage]. It may be printed.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText gives the hexadecimal form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (h *Hash) UnmarshalText(b []byte) error { return decodeHex(h[:], string(b), "payment hash") }

func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives the hexadecimal form.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (id *NodeID) UnmarshalText(b []byte) error { return decodeHex(id[:], string(b), "node id") }

// ParseNodeID reads 66 hexadecimal digits. It does not check that they are a
// point on the curve.
func ParseNodeID(s string) (id NodeID, err error) {
	return id, decodeHex(id[:], s, "node id")
}

func decodeHex(dst []byte, s, what string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%s has %d digits, want %d", what, len(s), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%s is not hexadecimal: %w", what, err)
	}
	return nil
}

// Preimage is the secret that settles a payment. Here it also leads to the key
// of a segment, so it is worth money: it never prints itself and never
// compares with ==. The zero value holds no secret.
type Preimage struct {
	_ [0]func() // incomparable, because == is not constant time
	// Two pointers, because fmt prints the unexported fields of an enclosing
	// struct without calling String, and with a verb for text also what one
	// pointer points to.
	b **[32]byte
}

// NewPreimage returns the preimage made of b.
func NewPreimage(b [32]byte) Preimage {
	p := &b
	return Preimage{b: &p}
}

// RandomPreimage returns a fresh preimage from the system's generator.
func RandomPreimage() Preimage {
	var b [32]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return NewPreimage(b)
}

// ParsePreimage reads 64 hexadecimal digits. The error never quotes them.
func ParsePreimage(s string) (Preimage, error) {
	var b [32]byte
	if len(s) != 64 {
		return Preimage{}, fmt.Errorf("preimage has %d digits, want 64", len(s))
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return Preimage{}, errors.New("preimage is not hexadecimal")
	}
	return NewPreimage(b), nil
}

// IsZero reports whether p holds no secret.
func (p Preimage) IsZero() bool { return p.b == nil }

// Hash returns the payment hash of p. It panics if p holds no secret.
func (p Preimage) Hash() Hash { return sha256.Sum256((*p.b)[:]) }

// Reveal returns the secret bytes. The name is loud on purpose: grep for it.
// It panics if p holds no secret.
func (p Preimage) Reveal() [32]byte { return **p.b }

// Opens reports whether p is the preimage of h.
func (p Preimage) Opens(h Hash) bool {
	if p.b == nil {
		return false
	}
	got := p.Hash()
	return subtle.ConstantTimeCompare(got[:], h[:]) == 1
}

// String keeps p out of logs and errors.
func (p Preimage) String() string {
	if p.b == nil {
		return "no preimage"
	}
	return "preimage of " + p.Hash().String()[:8]
}

// LogValue keeps p out of logs.
func (p Preimage) LogValue() slog.Value { return slog.StringValue(p.String()) }

// An Invoice is a request for payment, decoded and checked from BOLT 11.
//
// Its fields are only as good as where it came from: [DecodeInvoice] for one
// from a stranger, a [Payee] for one's own.
type Invoice struct {
	Bolt11  string // lower case
	Network Network
	Hash    Hash
	Amount  Msat
	Payee   NodeID // who signed it
	Created time.Time
	Expiry  time.Duration
	// FinalDelta is for how many blocks the payee's node may hold the payment
	// (min_final_cltv_expiry_delta); 0 in one that is to be made: 18.
	FinalDelta int
	Memo       string // what a stranger wrote: escape it before it is shown
}

// Expired reports whether the invoice can no longer be paid at now.
func (i Invoice) Expired(now time.Time) bool { return !now.Before(i.Created.Add(i.Expiry)) }

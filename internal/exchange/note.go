package exchange

import (
	"crypto/rand"
	"encoding/binary"
	"errors"

	"htlcdash"
	"htlcdash/lightning"
)

// domainPrepaid is what preimages of prepaid invoices are derived under,
// spec/09-till.md.
const domainPrepaid = "htlcdash/prepaid-preimage/v1"

// A note's first byte says what was sold, spec/09-till.md.
const (
	noteSalted  = 1 // || Q || salt
	notePrepaid = 2 // || Q || id
	noteTokens  = 3 // || SHA-256 of the request || epoch
	noteKeyed   = 4 // || preimage: only the buyer's credential leads to it
	noteCarried = 5 // || account || number || bytes
)

const (
	noteIDSize = 16 // bytes, random: one for each prepaid invoice
	headSize   = 1 + 32
)

// ErrNote means that a note is none of ours.
var ErrNote = errors.New("exchange: not a note of a sale")

func saltedNote(q htlcdash.Root, s htlcdash.Salt) []byte {
	return append(append([]byte{noteSalted}, q[:]...), s[:]...)
}

// prepaidNote is fresh for each invoice.
func prepaidNote(q htlcdash.Root) []byte {
	var id [noteIDSize]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	return append(append([]byte{notePrepaid}, q[:]...), id[:]...)
}

func tokensNote(digest [32]byte, epoch int64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{noteTokens}, digest[:]...), uint64(epoch))
}

func carriageNote(account [32]byte, number uint32, n int64) []byte {
	return append(append([]byte{noteCarried}, account[:]...), carriageTail(number, n)...)
}

// keyedNote holds a secret. Payees seal notes.
func keyedNote(key lightning.Preimage) []byte {
	b := key.Reveal()
	return append([]byte{noteKeyed}, b[:]...)
}

// Preimage derives the preimage of an invoice from the note of its terms. key
// returns the content key of the segment with a sealed root. The error matches
// [ErrNote], or is key's.
func (s Secret) Preimage(note []byte, key func(htlcdash.Root) (htlcdash.Key, error)) (lightning.Preimage, error) {
	if len(note) < headSize {
		return lightning.Preimage{}, ErrNote
	}
	named, rest := [32]byte(note[1:]), note[headSize:]
	switch {
	case note[0] == noteSalted && len(rest) == len(htlcdash.Salt{}):
		k, err := key(named)
		if err != nil {
			return lightning.Preimage{}, err
		}
		return htlcdash.Salt(rest).Preimage(k), nil
	case note[0] == notePrepaid && len(rest) == noteIDSize:
		return lightning.NewPreimage(s.mac(domainPrepaid, named[:], rest)), nil
	case note[0] == noteTokens && len(rest) == 8:
		return s.tokenPreimage(named, int64(binary.BigEndian.Uint64(rest))), nil
	case note[0] == noteCarried && len(rest) == len(carriageTail(0, 0)):
		return s.carriagePreimage(named, rest), nil
	case note[0] == noteKeyed && len(rest) == 0:
		return lightning.NewPreimage(named), nil
	}
	return lightning.Preimage{}, ErrNote
}

// Noted returns which segment a note sells, and by which scheme. ok is false if
// it sells none.
func Noted(note []byte) (q htlcdash.Root, scheme string, ok bool) {
	if len(note) < headSize {
		return q, "", false
	}
	scheme, ok = map[byte]string{noteSalted: SchemeSalted, notePrepaid: SchemePrepaid}[note[0]]
	return htlcdash.Root(note[1:headSize]), scheme, ok
}

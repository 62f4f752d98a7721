package htlcdash

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
)

// Domains of what is derived from a publisher's secret or a content key. A
// change of meaning needs a new version here and in spec/01-seal.md.
const (
	domainKey    = "htlcdash/content-key/v1" // of one segment
	domainGroup  = "htlcdash/group-key/v1"   // of several
	domainCipher = "htlcdash/cipher-key/v1"
)

// Bounds on what a stranger may claim.
const (
	MaxSegmentLength = 64 << 20 // bytes of one segment
	MaxSegments      = 1 << 17  // of one Representation: 72 hours at 2 s

	// Of a group, repeated bytes counted once. A group of one may be longer.
	MaxGroup     = 64          // segments
	MaxGroupTime = time.Minute // of media

	// MaxPrice of one key: no sum over a Representation overflows.
	MaxPrice lightning.Msat = math.MaxInt64 / MaxSegments
)

// A Seal is what the publisher says of one segment: what it is, what its
// sealed bytes are, what opens them, and what that key may cost. The key may
// open others too, see [Group]: then they share KeyHash, KeyPoint and Price.
type Seal struct {
	Plain    Root           // "R": root of the segment as the player gets it
	Sealed   Root           // "Q": root of the sealed bytes, the name they travel under
	KeyHash  [32]byte       // "hA": SHA-256 of the content key
	KeyPoint [33]byte       // "pA": the content key times the generator of secp256k1, compressed
	Length   int64          // bytes of the segment, before padding
	Duration time.Duration  // whole milliseconds
	Price    lightning.Msat // what the publisher asks for the key: the ceiling that viewers accept
	Quality  Decibel        // against the source; 0: not measured
}

// Decibel is a quality in hundredths of a dB of SSIM: -10*log10(1-ssim).
type Decibel uint16

// SealedBlob names the sealed bytes of s.
func (s Seal) SealedBlob() Blob { return Blob{s.Sealed, SealedLength(s.Length)} }

// SealedLength is the length in bytes of n bytes once sealed: padded to whole
// leaves, so that BitTorrent clients, which insist on it, can carry them.
func SealedLength(n int64) int64 { return (n + LeafSize - 1) / LeafSize * LeafSize }

// KeyOf returns the content key that a publisher's secret gives to segments
// that are sold together, in their order: to one, or to a group. The same bytes
// get the same key, so that publishing twice gives the same title. The key is
// below the order of secp256k1.
func KeyOf(secret []byte, segments ...Blob) Key {
	domain := domainKey
	if len(segments) > 1 {
		domain = domainGroup
	}
	var names []byte
	for _, b := range segments {
		names = binary.BigEndian.AppendUint64(append(names, b.Root[:]...), uint64(b.Length))
	}
	for n := byte(0); ; n++ {
		a := mac(secret, domain, names, []byte{n})
		var s btcec.ModNScalar
		if overflow := s.SetBytes(&a); overflow == 0 && !s.IsZero() {
			return NewKey(a)
		}
	}
}

// SealSegment seals plain in a buffer of its own. Price, Duration and Quality
// of the seal are left to the caller.
func SealSegment(secret, plain []byte) (sealed []byte, seal Seal, key Key) {
	return SealTo(nil, secret, plain)
}

// SealTo is [SealSegment] in the space of buf, if that is large enough. It
// must not overlap plain.
func SealTo(buf, secret, plain []byte) (sealed []byte, seal Seal, key Key) {
	blob := Blob{RootOf(plain), int64(len(plain))}
	key = KeyOf(secret, blob)
	sealed, seal = sealWith(buf, key, blob, plain)
	return sealed, seal, key
}

// SealWith is [SealTo] under a key of [KeyOf] that opens other segments too.
//
// Two segments under one key share a key stream only if their roots are equal.
// Then they are the same bytes, or one is of 64 bytes and an inner node of the
// other's tree; such two are not for one key, and [ParseSealList] refuses them.
func SealWith(buf []byte, key Key, plain []byte) (sealed []byte, seal Seal) {
	return sealWith(buf, key, Blob{RootOf(plain), int64(len(plain))}, plain)
}

func sealWith(buf []byte, key Key, blob Blob, plain []byte) (sealed []byte, seal Seal) {
	sealed = slices.Grow(buf[:0], int(SealedLength(blob.Length)))[:SealedLength(blob.Length)]
	stream := keystream(key, blob.Root)
	stream.XORKeyStream(sealed, plain)
	padding := sealed[len(plain):]
	clear(padding)
	stream.XORKeyStream(padding, padding)
	a := key.Reveal()
	_, point := btcec.PrivKeyFromBytes(a[:])
	seal = Seal{Plain: blob.Root, Sealed: RootOf(sealed), KeyHash: key.Hash(), Length: blob.Length}
	copy(seal.KeyPoint[:], point.SerializeCompressed())
	return sealed, seal
}

// Open returns the segment in sealed, in place: sealed is overwritten. If the
// key is not the seal's, or what it opens is not the segment, the error
// matches [ErrCorrupt]. The second means that the publisher sealed something
// else than it signed, if sealed was checked against s.Sealed before.
func (s Seal) Open(key Key, sealed []byte) ([]byte, error) {
	if !key.Opens(s) {
		return nil, fmt.Errorf("content key: %w", ErrCorrupt)
	}
	if int64(len(sealed)) != SealedLength(s.Length) {
		return nil, fmt.Errorf("sealed bytes: %d, want %d: %w", len(sealed), SealedLength(s.Length), ErrCorrupt)
	}
	keystream(key, s.Plain).XORKeyStream(sealed, sealed)
	plain := sealed[:s.Length]
	if RootOf(plain) != s.Plain {
		return nil, fmt.Errorf("opened segment: %w", ErrCorrupt)
	}
	return plain, nil
}

// keystream is AES-256-CTR with a zero IV: the cipher key belongs to one
// segment, also where the content key opens several, so it is used once.
func keystream(key Key, plain Root) cipher.Stream {
	a := key.Reveal()
	h := sha256.New()
	h.Write([]byte(domainCipher))
	h.Write(a[:])
	h.Write(plain[:])
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic("htlcdash: " + err.Error()) // 32 bytes are always a key
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize))
}

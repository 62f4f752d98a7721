// Package onion reads the innermost layer of a payment's onion (BOLT 4), as the
// payee's node does, and writes the failures that travel back. It is for payees
// beside a node: the node hands them the onion of the hop behind it.
//
//	packet = version || ephemeral key || 1300 bytes, encrypted || HMAC
//	layer  = length || payload (TLV) || HMAC of the next packet, zero at the last hop
//
// It does not route: it makes no packet for a next hop, and knows no blinded
// paths. It is pure, and all that it reads is of fixed or bounded size. It does
// not see replays: who must not take a payment twice goes by its hash.
package onion

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"golang.org/x/crypto/chacha20"

	"htlcdash/lightning"
)

// Sizes, BOLT 4 "Packet Structure" and "Returning Errors".
const (
	// Size is the length of a packet in bytes.
	Size = 1 + keySize + routeSize + macSize
	// FailureSize is the length of a failure on its way back, in bytes.
	FailureSize = macSize + 2 + failurePad + 2

	keySize    = 33
	routeSize  = 1300
	macSize    = 32
	failurePad = 256 // bytes of a failure's message and its padding
)

// Domains of keys, BOLT 4 "Key Generation".
const (
	domainRoute      = "rho"
	domainMAC        = "mu"
	domainFailureMAC = "um"
	domainFailure    = "ammag"
)

// Errors that callers decide on.
var (
	// ErrForeign means that a packet was not made for this key and hash.
	ErrForeign = errors.New("onion: not for this node")
	// ErrPayload means that a packet was made for this key, but does not say
	// what the last hop of a payment must be told.
	ErrPayload = errors.New("onion: malformed payload")
)

// A Layer is what a packet says to one hop.
type Layer struct {
	payload []byte
	last    bool
	secret  [32]byte // shared with the payer
	next    []byte   // the next hop's encrypted part and HMAC
}

// Open takes the layer of key off the packet that came with a payment of hash.
// The error matches [ErrForeign] if the packet is for another key or hash, and
// then nothing in it is to be believed. Of a packet that is for key, the layer
// is returned even if its length is malformed, so that it can be refused: then
// the error matches [ErrPayload].
func Open(packet []byte, key *btcec.PrivateKey, hash lightning.Hash) (*Layer, error) {
	if len(packet) != Size || packet[0] != 0 {
		return nil, fmt.Errorf("%d bytes: %w", len(packet), ErrForeign)
	}
	ephemeral, err := btcec.ParsePubKey(packet[1 : 1+keySize])
	if err != nil {
		return nil, fmt.Errorf("no point on the curve: %w", ErrForeign)
	}
	route, mac := packet[1+keySize:Size-macSize], packet[Size-macSize:]
	l := &Layer{secret: shared(ephemeral, key)}
	if !hmac.Equal(mac, l.mac(domainMAC, route, hash[:])) {
		return nil, ErrForeign
	}
	plain := make([]byte, 2*routeSize)
	copy(plain, route)
	l.mask(domainRoute, plain)
	length, n, err := bigSize(plain)
	if err != nil || length < 2 || length > uint64(routeSize-macSize-n) { // 0 and 1: the formats of old
		return l, fmt.Errorf("length: %w", ErrPayload)
	}
	l.payload, l.next = plain[n:n+int(length)], plain[n+int(length):][:macSize+routeSize]
	l.last = [macSize]byte(l.next) == [macSize]byte{}
	return l, nil
}

// shared is the secret of a point and a key: SHA-256 of the compressed product.
func shared(point *btcec.PublicKey, key *btcec.PrivateKey) [32]byte {
	var p, product btcec.JacobianPoint
	point.AsJacobian(&p)
	btcec.ScalarMultNonConst(&key.Key, &p, &product)
	product.ToAffine()
	return sha256.Sum256(btcec.NewPublicKey(&product.X, &product.Y).SerializeCompressed())
}

// key derives a key of one use from the shared secret.
func (l *Layer) key(domain string) []byte {
	h := hmac.New(sha256.New, []byte(domain))
	h.Write(l.secret[:])
	return h.Sum(nil)
}

func (l *Layer) mac(domain string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, l.key(domain))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// mask encrypts b in place, or decrypts it.
func (l *Layer) mask(domain string, b []byte) {
	// Each key is used once, so the nonce is zero. The sizes cannot be wrong.
	c, err := chacha20.NewUnauthenticatedCipher(l.key(domain), make([]byte, chacha20.NonceSize))
	if err != nil {
		panic("onion: " + err.Error())
	}
	c.XORKeyStream(b, b)
}

// Fail returns the failure with a message (BOLT 4, "Failure Messages") that the
// payer reads as from this hop. It panics if the message is above 256 bytes.
func (l *Layer) Fail(message []byte) []byte {
	b := make([]byte, macSize, FailureSize)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(b, message...)
	b = binary.BigEndian.AppendUint16(b, uint16(failurePad-len(message)))
	b = append(b, make([]byte, failurePad-len(message))...)
	copy(b, l.mac(domainFailureMAC, b[macSize:]))
	l.mask(domainFailure, b)
	return b
}

// incorrectDetails is incorrect_or_unknown_payment_details: PERM|15.
const incorrectDetails = 0x4000 | 15

// Incorrect is the message of a payee that does not take a payment, whatever the
// reason is: nobody shall learn more by trying.
func Incorrect(amount lightning.Msat, height uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, incorrectDetails)
	b = binary.BigEndian.AppendUint64(b, uint64(amount))
	return binary.BigEndian.AppendUint32(b, height)
}

package onion

import (
	"crypto/sha256"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Next is the packet that a hop would send on: only so do the examples of BOLT 4
// get to the last hop.
func (l *Layer) Next(packet []byte) []byte {
	point, err := btcec.ParsePubKey(packet[1 : 1+keySize])
	if err != nil {
		panic(err)
	}
	blinding := sha256.Sum256(append(point.SerializeCompressed(), l.secret[:]...))
	var factor btcec.ModNScalar
	factor.SetBytes(&blinding)
	var p, product btcec.JacobianPoint
	point.AsJacobian(&p)
	btcec.ScalarMultNonConst(&factor, &p, &product)
	product.ToAffine()
	out := append([]byte{0}, btcec.NewPublicKey(&product.X, &product.Y).SerializeCompressed()...)
	out = append(out, l.next[macSize:]...)
	return append(out, l.next[:macSize]...)
}

// Said is the payload.
func (l *Layer) Said() []byte { return l.payload }

// ParsePayload opens the parser.
func ParsePayload(b []byte) (Final, error) { return parse(b) }

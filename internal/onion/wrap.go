package onion

import (
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
)

// Payload writes what [Layer.Final] reads.
func (f Final) Payload() []byte {
	record := func(b []byte, kind byte, value []byte) []byte {
		b = append(b, kind)
		if len(value) >= 0xfd {
			b = append(b, 0xfd, byte(len(value)>>8))
		}
		return append(append(b, byte(len(value))), value...)
	}
	b := record(nil, recordAmount, short(uint64(f.Amount)))
	b = record(b, recordExpiry, short(uint64(f.Expiry)))
	b = record(b, recordPayment, append(f.Secret[:], short(uint64(f.Total))...))
	if f.Metadata != nil {
		b = record(b, recordMetadata, f.Metadata)
	}
	return b
}

// short is the tu64 of n.
func short(n uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, n)
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// Wrap makes the packet with one layer that a last hop gets. A payer's node
// makes its own; this is for simulated ones and for tests. A payload of more
// than 1265 bytes is cut off.
func Wrap(payload []byte, node *btcec.PublicKey, session *btcec.PrivateKey, hash lightning.Hash) []byte {
	l := &Layer{secret: shared(node, session)}
	layer := []byte{byte(len(payload))}
	if len(payload) >= 0xfd {
		layer = []byte{0xfd, byte(len(payload) >> 8), byte(len(payload))}
	}
	route := make([]byte, routeSize)
	copy(route, append(layer, payload...))
	l.mask(domainRoute, route)
	packet := append([]byte{0}, session.PubKey().SerializeCompressed()...)
	packet = append(packet, route...)
	return append(packet, l.mac(domainMAC, route, hash[:])...)
}

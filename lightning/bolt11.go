package lightning

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcutil/bech32"
)

// ErrInvoice means that a string is no BOLT 11 invoice that we may pay.
var ErrInvoice = errors.New("lightning: malformed invoice")

// Network says whose money an invoice asks for.
type Network string

// The networks of BOLT 11, and btcd's simnet.
const (
	Mainnet Network = "mainnet"
	Testnet Network = "testnet"
	Signet  Network = "signet"
	Regtest Network = "regtest"
	Simnet  Network = "simnet"
)

// currencies are the prefixes after "ln" (BOLT 11, "Human-Readable Part").
var currencies = map[string]Network{"bc": Mainnet, "tb": Testnet, "tbs": Signet, "bcrt": Regtest, "sb": Simnet}

const (
	maxBolt11     = 7089 // characters; what fits a QR code, and lnd's limit
	maxMemo       = 639  // bytes: 1023 groups of 5 bits
	maxMsat       = Msat(21_000_000 * 100_000_000 * 1000)
	maxExpiry     = 1 << 32 // seconds; time.Duration carries them
	defaultExpiry = time.Hour
	defaultDelta  = 18      // blocks
	maxDelta      = 1 << 20 // blocks, twenty years; what is sane is the caller's to say

	timestampGroups = 7 // 35 bits
	hashGroups      = 52
	nodeGroups      = 53
	signatureGroups = 104
	checksumGroups  = 6
)

// The types of tagged fields, BOLT 11 "Tagged Fields".
const (
	tagHash        = 1  // p
	tagRouteHint   = 3  // r
	tagFeatures    = 5  // 9
	tagExpiry      = 6  // x
	tagMemo        = 13 // d
	tagSecret      = 16 // s
	tagNode        = 19 // n
	tagBlindedPath = 20 // b, as lnd writes it; not in BOLT 11 yet
	tagMemoHash    = 23 // h
	tagFinalDelta  = 24 // c
	tagMetadata    = 27 // m
)

// Feature bits (BOLT 9), by their even, required number.
const (
	featureOnion    = 8
	featureSecret   = 14
	featureBlinding = 24
	featureMetadata = 48
	featureBlinded  = 262 // lnd's blinded paths inside BOLT 11
)

var knownFeatures = map[int]bool{featureOnion: true, featureSecret: true, 16: true /* basic_mpp */, featureBlinding: true, featureMetadata: true, featureBlinded: true}

// DecodeInvoice reads a BOLT 11 invoice and checks all of it: the checksum,
// the signature, the amount, and that it requires no feature that we do not
// know. Amount is 0 if the invoice names none; nothing here pays such a one.
//
// It is stricter than BOLT 11 asks of a reader where leniency would let this
// program and the paying node read two different invoices out of one string:
// no field that we use may appear twice, and the bits that fill up a field are
// zero. The error matches [ErrInvoice] and never quotes the invoice.
func DecodeInvoice(bolt11 string) (Invoice, error) {
	inv, err := decodeInvoice(bolt11)
	if err != nil {
		return Invoice{}, fmt.Errorf("%w: %w", ErrInvoice, err)
	}
	return inv, nil
}

func decodeInvoice(bolt11 string) (Invoice, error) {
	if len(bolt11) > maxBolt11 {
		return Invoice{}, fmt.Errorf("%d characters, want at most %d", len(bolt11), maxBolt11)
	}
	hrp, data, version, err := bech32.DecodeNoLimitWithVersion(bolt11)
	switch {
	case err != nil:
		return Invoice{}, errors.New("not bech32, or its checksum is wrong")
	case version != bech32.Version0:
		return Invoice{}, errors.New("bech32m, want bech32")
	case len(data) < timestampGroups+signatureGroups:
		return Invoice{}, errors.New("too short")
	}
	network, amount, err := parsePrefix(hrp)
	if err != nil {
		return Invoice{}, err
	}
	signed, signature := data[:len(data)-signatureGroups], data[len(data)-signatureGroups:]
	f, err := parseFields(signed[timestampGroups:])
	if err != nil {
		return Invoice{}, err
	}
	payee, err := signer(hrp, signed, signature, f.node)
	if err != nil {
		return Invoice{}, err
	}
	return Invoice{
		Bolt11:  strings.ToLower(bolt11),
		Network: network,
		Hash:    f.hash,
		Amount:  amount,
		Payee:   payee,
		Created: time.Unix(int64(number(signed[:timestampGroups])), 0).UTC(),
		Expiry:  f.expiry,
		Memo:    f.memo,

		FinalDelta: f.delta,
	}, nil
}

// parsePrefix reads the part before the bech32 separator, such as "lnbc2500u".
func parsePrefix(hrp string) (Network, Msat, error) {
	rest, ok := strings.CutPrefix(hrp, "ln")
	if !ok {
		return "", 0, errors.New("does not begin with ln")
	}
	digits := strings.IndexAny(rest, "0123456789")
	if digits < 0 {
		digits = len(rest)
	}
	network, ok := currencies[rest[:digits]]
	if !ok {
		return "", 0, errors.New("unknown network")
	}
	amount, err := parseAmount(rest[digits:])
	return network, amount, err
}

// unit is what the multipliers stand for; 'p' is a tenth of a msat.
var unit = map[byte]Msat{'m': 1e8, 'u': 1e5, 'n': 1e2}

const coin = Msat(1e11)

func parseAmount(s string) (Msat, error) {
	if s == "" {
		return 0, nil
	}
	each, last := coin, s[len(s)-1]
	if u, ok := unit[last]; ok {
		each, s = u, s[:len(s)-1]
	} else if last == 'p' {
		if !strings.HasSuffix(s, "0p") {
			return 0, errors.New("amount is no whole number of msat")
		}
		each, s = 1, strings.TrimSuffix(s, "0p")
	}
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case err != nil || s[0] == '0':
		return 0, errors.New("amount is not a positive number with a known multiplier")
	case Msat(n) > maxMsat/each:
		return 0, errors.New("amount above 21 million coins")
	}
	return Msat(n) * each, nil
}

// formatAmount writes the shortest form.
func formatAmount(m Msat) string {
	switch {
	case m == 0:
		return ""
	case m%coin == 0:
		return strconv.FormatInt(int64(m/coin), 10)
	case m%unit['m'] == 0:
		return strconv.FormatInt(int64(m/unit['m']), 10) + "m"
	case m%unit['u'] == 0:
		return strconv.FormatInt(int64(m/unit['u']), 10) + "u"
	case m%unit['n'] == 0:
		return strconv.FormatInt(int64(m/unit['n']), 10) + "n"
	}
	return strconv.FormatInt(int64(m), 10) + "0p"
}

type fields struct {
	hash   Hash
	memo   string
	expiry time.Duration
	delta  int
	node   []byte // empty: recover it from the signature
}

// parseFields walks the tagged fields. Unknown ones, and known ones of another
// length, are skipped as BOLT 11 asks.
func parseFields(data []byte) (fields, error) {
	var (
		out      = fields{expiry: defaultExpiry, delta: defaultDelta}
		seen     [32]bool
		features []byte
	)
	for len(data) > 0 {
		if len(data) < 3 {
			return out, errors.New("cut off in a field")
		}
		tag, length := data[0], int(data[1])<<5|int(data[2])
		if data = data[3:]; len(data) < length {
			return out, errors.New("a field is longer than the invoice")
		}
		value := data[:length]
		data = data[length:]
		if want := fixedGroups(tag); want != 0 && want != length {
			continue
		}
		if tag != tagBlindedPath && isOurs(tag) && seen[tag] {
			return out, errors.New("a field appears twice")
		}
		seen[tag] = true

		var err error
		switch tag {
		case tagHash:
			var b []byte
			b, err = octets(value)
			copy(out.hash[:], b)
		case tagNode:
			out.node, err = octets(value)
		case tagMemo:
			out.memo, err = memo(value)
		case tagExpiry:
			out.expiry, err = seconds(value)
		case tagFinalDelta:
			out.delta, err = blocks(value)
		case tagSecret:
			_, err = octets(value)
		case tagFeatures:
			features, err = value, checkFeatures(value)
		}
		if err != nil {
			return out, err
		}
	}
	switch {
	case !seen[tagHash]:
		return out, errors.New("no payment hash")
	case seen[tagMemo] == seen[tagMemoHash]:
		return out, errors.New("want either a description or its hash")
	case !seen[tagSecret] && !(has(features, featureBlinded) && seen[tagBlindedPath]):
		return out, errors.New("no payment secret")
	}
	return out, nil
}

func isOurs(tag byte) bool {
	switch tag {
	case tagHash, tagFeatures, tagExpiry, tagMemo, tagSecret, tagNode, tagMemoHash, tagFinalDelta:
		return true
	}
	return false
}

func fixedGroups(tag byte) int {
	switch tag {
	case tagHash, tagSecret, tagMemoHash:
		return hashGroups
	case tagNode:
		return nodeGroups
	}
	return 0
}

func memo(value []byte) (string, error) {
	b, err := octets(value)
	if err == nil && !utf8.Valid(b) {
		err = errors.New("description is not UTF-8")
	}
	return string(b), err
}

func seconds(value []byte) (time.Duration, error) {
	value = bytes.TrimLeft(value, "\x00")
	if n := number(value); len(value) <= 7 && n <= maxExpiry {
		return time.Duration(n) * time.Second, nil
	}
	return 0, errors.New("expires too late")
}

func blocks(value []byte) (int, error) {
	value = bytes.TrimLeft(value, "\x00")
	if n := number(value); len(value) <= 4 && n <= maxDelta {
		return int(n), nil
	}
	return 0, errors.New("holds the payment for ever")
}

// checkFeatures refuses even bits that we do not know (BOLT 9: "it's ok to be
// odd").
func checkFeatures(value []byte) error {
	for bit := 0; bit < 5*len(value); bit += 2 {
		if bitSet(value, bit) && !knownFeatures[bit] {
			return fmt.Errorf("requires unknown feature %d", bit)
		}
	}
	return nil
}

// has reports whether a feature is offered or required.
func has(value []byte, even int) bool { return bitSet(value, even) || bitSet(value, even+1) }

func bitSet(value []byte, bit int) bool {
	group := len(value) - 1 - bit/5
	return group >= 0 && value[group]>>(bit%5)&1 == 1
}

// signer checks the signature and returns who made it.
func signer(hrp string, signed, signature, node []byte) (NodeID, error) {
	sig, err := octets(signature)
	if err != nil {
		return NodeID{}, err
	}
	digest := signedHash(hrp, signed)
	if len(node) != 0 {
		return verify(digest, sig, node)
	}
	if sig[64] > 3 {
		return NodeID{}, errors.New("recovery id above 3")
	}
	// btcec wants the recovery id in front, and 31 for a compressed key.
	compact := append([]byte{sig[64] + 31}, sig[:64]...)
	key, _, err := ecdsa.RecoverCompact(compact, digest[:])
	if err != nil {
		return NodeID{}, errors.New("signature does not recover to a key")
	}
	return NodeID(key.SerializeCompressed()), nil
}

// verify checks a signature against the key in field n. Only there must S be
// low (BOLT 11, "Examples of Invalid Invoices").
func verify(digest [32]byte, sig, node []byte) (NodeID, error) {
	key, err := btcec.ParsePubKey(node)
	if err != nil {
		return NodeID{}, errors.New("payee is not a point on the curve")
	}
	var r, s btcec.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:64]) || s.IsOverHalfOrder() ||
		!ecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return NodeID{}, errors.New("signature does not verify")
	}
	return NodeID(node), nil
}

// signedHash is what an invoice's signature covers. The filling bits here may
// be anything, for they are part of the fields.
func signedHash(hrp string, signed []byte) [32]byte {
	b, _ := bech32.ConvertBits(signed, 5, 8, true) // fails only for bad widths
	return sha256.Sum256(append([]byte(hrp), b...))
}

// octets turns groups of five bits into bytes and refuses filling bits that
// are not zero.
func octets(groups []byte) ([]byte, error) {
	b, err := bech32.ConvertBits(groups, 5, 8, false)
	if err != nil {
		return nil, errors.New("filling bits are not zero")
	}
	return b, nil
}

// number reads big-endian groups; callers bound their count.
func number(groups []byte) (n uint64) {
	for _, g := range groups {
		n = n<<5 | uint64(g)
	}
	return n
}

// Payable reports why i must not be handed to a node that shall spend at most
// i.Amount + maxFee, or nil. It reads the invoice again: a node goes by the
// text, the caller by the fields, and the two must say the same.
func (i Invoice) Payable(maxFee Msat) error {
	text, err := DecodeInvoice(i.Bolt11)
	switch {
	case err != nil:
		return err
	case text.Hash != i.Hash || text.Amount != i.Amount:
		return fmt.Errorf("%w: its text and its fields differ", ErrInvoice)
	case i.Amount <= 0:
		return fmt.Errorf("%w: it names no amount", ErrInvoice)
	case maxFee < 0:
		return errors.New("negative fee limit")
	}
	return nil
}

// EncodeInvoice signs inv with the payee's key and returns it complete, with
// Bolt11 and Payee set. Network, Hash and Created must be set; secret is the
// payment secret (field s), fresh for each invoice. A node makes invoices of its
// own; this is for payees beside it, for the simulated one and for tests.
func EncodeInvoice(inv Invoice, secret [32]byte, key *btcec.PrivateKey, with ...Field) (Invoice, error) {
	if len(inv.Memo) > maxMemo || !utf8.ValidString(inv.Memo) {
		return Invoice{}, fmt.Errorf("%w: description is not UTF-8 of at most %d bytes", ErrInvoice, maxMemo)
	}
	if inv.Amount < 0 || inv.Amount > maxMsat {
		return Invoice{}, fmt.Errorf("%w: amount %v", ErrInvoice, inv.Amount)
	}
	prefix, ok := currency(inv.Network)
	if !ok {
		return Invoice{}, fmt.Errorf("%w: unknown network %q", ErrInvoice, inv.Network)
	}
	if inv.Expiry == 0 {
		inv.Expiry = defaultExpiry
	}
	if inv.FinalDelta < 0 || inv.FinalDelta > maxDelta {
		return Invoice{}, fmt.Errorf("%w: %d blocks", ErrInvoice, inv.FinalDelta)
	}
	if inv.FinalDelta == 0 {
		inv.FinalDelta = defaultDelta
	}
	inv.Expiry = inv.Expiry.Truncate(time.Second)
	inv.Created = inv.Created.Truncate(time.Second).UTC()

	hrp := "ln" + prefix + formatAmount(inv.Amount)
	data := fixed(uint64(inv.Created.Unix()), timestampGroups)
	data = appendField(data, tagSecret, groups(secret[:]))
	data = appendField(data, tagHash, groups(inv.Hash[:]))
	data = appendField(data, tagMemo, groups([]byte(inv.Memo)))
	data = appendField(data, tagExpiry, shortest(uint64(inv.Expiry/time.Second)))
	data = appendField(data, tagFinalDelta, shortest(uint64(inv.FinalDelta)))
	features := []int{featureOnion, featureSecret}
	for _, f := range with {
		if f.err != nil {
			return Invoice{}, fmt.Errorf("%w: %w", ErrInvoice, f.err)
		}
		data = appendField(data, f.tag, groups(f.value))
		features = append(features, f.requires...)
	}
	data = appendField(data, tagFeatures, featureGroups(features))
	if len(hrp)+1+len(data)+signatureGroups+checksumGroups > maxBolt11 {
		return Invoice{}, fmt.Errorf("%w: longer than %d characters", ErrInvoice, maxBolt11)
	}
	return sign(inv, hrp, data, key)
}

// featureGroups sets bits in the shortest field that has room for them.
func featureGroups(bits []int) []byte {
	g := make([]byte, slices.Max(bits)/5+1)
	for _, bit := range bits {
		g[len(g)-1-bit/5] |= 1 << (bit % 5)
	}
	return g
}

// A Field is one that an invoice has only on demand.
type Field struct {
	tag      byte
	value    []byte
	requires []int // features that a payer must know
	err      error
}

const (
	maxHops     = 12  // in one hint
	maxMetadata = 639 // bytes: 1023 groups of 5 bits
)

// A Hop is one step of a [RouteHint]: over Channel, which leaves Node.
type Hop struct {
	Node    NodeID
	Channel uint64 // short_channel_id
	BaseFee uint32 // msat
	FeeRate uint32 // millionths
	Delta   uint16 // blocks, cltv_expiry_delta
}

// RouteHint says how to reach the payee over channels that are not announced
// (field r), from a public node on.
func RouteHint(hops ...Hop) Field {
	f := Field{tag: tagRouteHint}
	if len(hops) == 0 || len(hops) > maxHops {
		f.err = fmt.Errorf("a route hint of %d hops, want 1 to %d", len(hops), maxHops)
	}
	for _, h := range hops {
		f.value = append(f.value, h.Node[:]...)
		f.value = binary.BigEndian.AppendUint64(f.value, h.Channel)
		f.value = binary.BigEndian.AppendUint32(f.value, h.BaseFee)
		f.value = binary.BigEndian.AppendUint32(f.value, h.FeeRate)
		f.value = binary.BigEndian.AppendUint16(f.value, h.Delta)
	}
	return f
}

// Metadata is what the payer's node hands to the payee's with the payment
// (field m). A payer that does not know how refuses the invoice.
func Metadata(b []byte) Field {
	f := Field{tag: tagMetadata, value: b, requires: []int{featureMetadata}}
	if len(b) == 0 || len(b) > maxMetadata {
		f.err = fmt.Errorf("metadata of %d bytes, want 1 to %d", len(b), maxMetadata)
	}
	return f
}

func sign(inv Invoice, hrp string, data []byte, key *btcec.PrivateKey) (Invoice, error) {
	digest := signedHash(hrp, data)
	compact := ecdsa.SignCompact(key, digest[:], true)
	data = append(data, groups(append(compact[1:], compact[0]-31))...)
	bolt11, err := bech32.Encode(hrp, data)
	if err != nil {
		return Invoice{}, fmt.Errorf("%w: %w", ErrInvoice, err)
	}
	inv.Bolt11, inv.Payee = bolt11, NodeID(key.PubKey().SerializeCompressed())
	return inv, nil
}

func currency(n Network) (string, bool) {
	for prefix, network := range currencies {
		if network == n {
			return prefix, true
		}
	}
	return "", false
}

func appendField(data []byte, tag byte, value []byte) []byte {
	data = append(data, tag, byte(len(value)>>5), byte(len(value)&31))
	return append(data, value...)
}

// groups turns bytes into groups of five bits, filled up with zeros.
func groups(b []byte) []byte {
	g, _ := bech32.ConvertBits(b, 8, 5, true) // fails only for bad widths
	return g
}

func fixed(n uint64, count int) []byte {
	g := make([]byte, count)
	for i := range g {
		g[count-1-i] = byte(n >> (5 * i) & 31)
	}
	return g
}

func shortest(n uint64) []byte { return bytes.TrimLeft(fixed(n, 13), "\x00") }

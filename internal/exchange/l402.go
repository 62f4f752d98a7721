package exchange

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gopkg.in/macaroon.v2"

	"htlcdash"
	"htlcdash/lightning"
)

// Domains of what L402 derives from the provider's secret, spec/05-exchange.md.
const (
	domainRootKey = "htlcdash/l402-root/v1"
	domainTokenID = "htlcdash/l402-token/v1"
)

// The macaroon: its location, the length of its identifier (L402, "Identifier
// Structure", version 0), and the conditions of its caveats.
const (
	l402Location   = "lsat"
	l402IDLength   = 2 + 32 + 32
	l402Service    = "htlcdash"
	caveatServices = "services"
	caveatSegment  = l402Service + "_segment"
	caveatUntil    = l402Service + "_valid_until"
	maxTokens      = 4
	maxTokenBytes  = 2 << 10
	maxCaveats     = 16
)

// l402Challenge says both token= (the specification of 2026) and macaroon=
// (all clients before it), with the same value.
func (p Prepaid) l402Challenge(inv lightning.Invoice, q htlcdash.Root) string {
	token := base64.StdEncoding.EncodeToString(p.mint(inv, q))
	return fmt.Sprintf(`L402 version="0", token="%s", macaroon="%[1]s", invoice="%s"`, token, inv.Bolt11)
}

// mint makes the macaroon that, with the preimage of inv, opens the segment
// with sealed root q. Its root key is derived from its identifier.
func (p Prepaid) mint(inv lightning.Invoice, q htlcdash.Root) []byte {
	id := l402ID(inv.Hash, p.Till.Secret.mac(domainTokenID, inv.Hash[:], q[:]))
	m, err := macaroon.New(p.rootKey(id), id, l402Location, macaroon.V2)
	if err != nil {
		panic("exchange: " + err.Error()) // fails on version 1 only
	}
	for _, caveat := range []string{
		caveatServices + "=" + l402Service + ":0",
		caveatSegment + "=" + q.String(),
		caveatUntil + "=" + strconv.FormatInt(deadline(inv).Unix(), 10),
	} {
		if err := m.AddFirstPartyCaveat([]byte(caveat)); err != nil {
			panic("exchange: " + err.Error()) // likewise
		}
	}
	b, err := m.MarshalBinary()
	if err != nil {
		panic("exchange: " + err.Error()) // likewise
	}
	return b
}

func l402ID(hash lightning.Hash, token [32]byte) []byte {
	id := binary.BigEndian.AppendUint16(make([]byte, 0, l402IDLength), 0)
	id = append(id, hash[:]...)
	return append(id, token[:]...)
}

func (p Prepaid) rootKey(id []byte) []byte {
	key := p.Till.Secret.mac(domainRootKey, id)
	return key[:]
}

func (p Prepaid) admitL402(s string, q htlcdash.Root, now time.Time) (Grant, error) {
	tokens, preimage, err := parseL402(s)
	if err != nil {
		return Grant{}, err
	}
	failure := ErrForged
	for _, m := range tokens {
		hash, err := p.checkMacaroon(m, q, now)
		switch {
		case err != nil:
			failure = err
		case !preimage.Opens(hash):
			failure = fmt.Errorf("preimage: %w", ErrForged)
		default:
			return Grant{Hash: hash}, nil
		}
	}
	return Grant{}, failure
}

// checkMacaroon verifies the chain of MACs, then each caveat. All caveats of
// one condition must hold, so a holder can add narrower ones. Conditions that
// we do not know are skipped, as the L402 specification has it: whatever a
// holder adds, ours still stand.
func (p Prepaid) checkMacaroon(m *macaroon.Macaroon, q htlcdash.Root, now time.Time) (hash lightning.Hash, err error) {
	id := m.Id()
	if len(id) != l402IDLength || binary.BigEndian.Uint16(id) != 0 {
		return hash, fmt.Errorf("macaroon identifier: %w", ErrForged)
	}
	caveats, err := m.VerifySignature(p.rootKey(id), nil)
	if err != nil {
		return hash, fmt.Errorf("macaroon signature: %w", ErrForged)
	}
	copy(hash[:], id[2:])
	for _, c := range caveats {
		condition, value, _ := strings.Cut(c, "=")
		if !satisfied(strings.TrimSpace(condition), strings.TrimSpace(value), q, now) {
			return hash, fmt.Errorf("caveat on %s: %w", condition, ErrStale)
		}
	}
	return hash, nil
}

func satisfied(condition, value string, q htlcdash.Root, now time.Time) bool {
	switch condition {
	case caveatServices:
		for service := range strings.SplitSeq(value, ",") {
			if name, _, _ := strings.Cut(service, ":"); strings.TrimSpace(name) == l402Service {
				return true
			}
		}
		return false
	case caveatSegment:
		return value == q.String()
	case caveatUntil:
		t, err := strconv.ParseInt(value, 10, 64)
		return err == nil && now.Unix() < t
	default:
		return true
	}
}

// parseL402 reads what follows the scheme's name: "token[,token...]:preimage",
// or the same as parameters, token="..." or macaroon="...", preimage="...".
func parseL402(s string) ([]*macaroon.Macaroon, lightning.Preimage, error) {
	list, secret, ok := strings.Cut(s, ":")
	if !ok {
		params, err := parseParams(s)
		if err != nil {
			return nil, lightning.Preimage{}, err
		}
		if list = params["token"]; list == "" {
			list = params["macaroon"]
		}
		secret = params["preimage"]
	}
	preimage, err := lightning.ParsePreimage(secret)
	if err != nil {
		return nil, preimage, fmt.Errorf("preimage: %w", ErrMalformed)
	}
	tokens, err := parseTokens(list)
	return tokens, preimage, err
}

func parseTokens(list string) ([]*macaroon.Macaroon, error) {
	fields := strings.Split(list, ",")
	if len(fields) > maxTokens {
		return nil, fmt.Errorf("%d tokens: %w", len(fields), ErrMalformed)
	}
	tokens := make([]*macaroon.Macaroon, len(fields))
	for i, f := range fields {
		var err error
		if tokens[i], err = parseToken(f); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

func parseToken(s string) (*macaroon.Macaroon, error) {
	b, err := decodeBase64(s)
	if err != nil || len(b) > maxTokenBytes {
		return nil, fmt.Errorf("token is not base64: %w", ErrMalformed)
	}
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(b); err != nil || len(m.Caveats()) > maxCaveats {
		return nil, fmt.Errorf("token is not a macaroon: %w", ErrMalformed)
	}
	// The parser above ignores what follows the macaroon.
	if again, err := m.MarshalBinary(); err != nil || len(again) != len(b) {
		return nil, fmt.Errorf("token has bytes after its macaroon: %w", ErrMalformed)
	}
	return &m, nil
}

// decodeBase64 reads the standard and the URL-safe alphabet, with or without
// padding: all four are in use.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

// parseParams reads auth-params (RFC 9110, 11.2), each name at most once.
func parseParams(s string) (map[string]string, error) {
	params := map[string]string{}
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || len(params) == 8 {
			return nil, fmt.Errorf("parameters: %w", ErrMalformed)
		}
		if _, twice := params[name]; twice {
			return nil, fmt.Errorf("parameter twice: %w", ErrMalformed)
		}
		rest = strings.TrimLeft(rest, " \t")
		var value string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			if value, rest, ok = strings.Cut(quoted, `"`); !ok {
				return nil, fmt.Errorf("parameter without end: %w", ErrMalformed)
			}
			after := strings.TrimLeft(rest, " \t")
			if after != "" && after[0] != ',' {
				return nil, fmt.Errorf("parameters: %w", ErrMalformed)
			}
			rest = strings.TrimPrefix(after, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
			value = strings.TrimSpace(value)
		}
		params[name], s = value, strings.TrimLeft(rest, " \t")
	}
	return params, nil
}

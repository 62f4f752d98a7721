package exchange

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// domainPayment is what the key of challenge ids is derived under.
const domainPayment = "htlcdash/payment-id/v1"

// The one method and intent of the scheme Payment that we offer.
const (
	paymentMethod = "lightning"
	paymentIntent = "charge"
)

// chargeRequest is the "request" parameter, draft-lightning-charge-00. Its
// fields stand in the order of their names and hold plain ASCII only, so that
// encoding/json writes them as the JSON Canonicalization Scheme (RFC 8785) does.
type chargeRequest struct {
	Amount     string        `json:"amount"` // whole satoshis
	Currency   string        `json:"currency"`
	ExternalID string        `json:"externalId"` // sealed root: clients echo the request, but not all echo "opaque"
	Details    chargeDetails `json:"methodDetails"`
}

type chargeDetails struct {
	Invoice string            `json:"invoice"`
	Network lightning.Network `json:"network"`
	Hash    lightning.Hash    `json:"paymentHash"`
}

// paymentEcho is a challenge as its credential repeats it. Description stays
// out: the draft puts it outside of the MAC.
type paymentEcho struct {
	ID      string `json:"id"`
	Realm   string `json:"realm"`
	Method  string `json:"method"`
	Intent  string `json:"intent"`
	Request string `json:"request"`
	Expires string `json:"expires"`
	Digest  string `json:"digest"`
	Opaque  string `json:"opaque"`
}

type paymentCredential struct {
	Challenge paymentEcho `json:"challenge"`
	Payload   struct {
		Preimage string `json:"preimage"`
	} `json:"payload"`
}

type paymentReceipt struct {
	Challenge string         `json:"challengeId"`
	Method    string         `json:"method"`
	Reference lightning.Hash `json:"reference"`
	Status    string         `json:"status"`
	Timestamp string         `json:"timestamp"`
}

func (p Prepaid) paymentChallenge(inv lightning.Invoice, q htlcdash.Root) string {
	c := p.echo(inv, q)
	return fmt.Sprintf(`Payment id="%s", realm="%s", method="%s", intent="%s", request="%s", expires="%s"`,
		c.ID, c.Realm, c.Method, c.Intent, c.Request, c.Expires)
}

func (p Prepaid) echo(inv lightning.Invoice, q htlcdash.Root) paymentEcho {
	c := paymentEcho{
		Realm:  p.Realm,
		Method: paymentMethod,
		Intent: paymentIntent,
		Request: encodeJSON(chargeRequest{
			Amount:     strconv.FormatInt(int64(inv.Amount/lightning.Sat), 10),
			Currency:   "sat",
			ExternalID: q.String(),
			Details:    chargeDetails{Invoice: inv.Bolt11, Network: inv.Network, Hash: inv.Hash},
		}),
		Expires: inv.Created.Add(inv.Expiry).UTC().Format(time.RFC3339),
	}
	c.ID = p.paymentID(c)
	return c
}

// paymentID binds a challenge to the provider's secret, draft-httpauth-payment,
// "Recommended: HMAC-SHA256 Binding": seven slots, the absent ones empty.
func (p Prepaid) paymentID(c paymentEcho) string {
	key := p.Till.Secret.mac(domainPayment)
	h := hmac.New(sha256.New, key[:])
	io.WriteString(h, strings.Join([]string{c.Realm, c.Method, c.Intent, c.Request, c.Expires, c.Digest, c.Opaque}, "|"))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func (p Prepaid) admitPayment(s string, q htlcdash.Root, now time.Time) (Grant, error) {
	var c paymentCredential
	if err := decodeJSON(s, &c); err != nil {
		return Grant{}, err
	}
	preimage, err := lightning.ParsePreimage(c.Payload.Preimage)
	if err != nil {
		return Grant{}, fmt.Errorf("preimage: %w", ErrMalformed)
	}
	if !hmac.Equal([]byte(c.Challenge.ID), []byte(p.paymentID(c.Challenge))) {
		return Grant{}, fmt.Errorf("challenge id: %w", ErrForged)
	}
	// From here on the challenge is one of ours.
	var r chargeRequest
	if err := decodeJSON(c.Challenge.Request, &r); err != nil {
		return Grant{}, err
	}
	if !preimage.Opens(r.Details.Hash) {
		return Grant{}, fmt.Errorf("preimage: %w", ErrForged)
	}
	expires, err := time.Parse(time.RFC3339, c.Challenge.Expires)
	if err != nil || r.ExternalID != q.String() || !now.Before(expires.Add(Grace)) {
		return Grant{}, fmt.Errorf("challenge: %w", ErrStale)
	}
	return Grant{Hash: r.Details.Hash, Receipt: receipt(c.Challenge.ID, r.Details.Hash, now)}, nil
}

func receipt(id string, hash lightning.Hash, now time.Time) string {
	return encodeJSON(paymentReceipt{
		Challenge: id,
		Method:    paymentMethod,
		Reference: hash,
		Status:    "success",
		Timestamp: now.UTC().Format(time.RFC3339),
	})
}

// encodeJSON gives base64url without padding of v as JSON.
func encodeJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // RFC 8785 escapes no more than it must
	if err := enc.Encode(v); err != nil {
		panic("exchange: " + err.Error()) // strings and hashes only
	}
	return base64.RawURLEncoding.EncodeToString(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// decodeJSON reads base64url, with or without padding, of a JSON object.
func decodeJSON(s string, v any) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return fmt.Errorf("not base64url: %w", ErrMalformed)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("not the JSON wanted: %w", ErrMalformed)
	}
	return nil
}

package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Grace is how long a credential opens its segment after the invoice expired:
// one who paid in the last second, or whose connection was cut, loses nothing.
const Grace = time.Hour

// Bounds on Authorization headers.
const (
	maxCredentials     = 4       // in one request
	maxCredentialBytes = 8 << 10 // of one; the Payment draft asks for 4 KiB at least
)

// Prepaid is the scheme "prepaid" for clients that know nothing of seals: they
// pay an invoice, show its preimage, and get the segment in the clear. The
// buyer trusts the provider to deliver. A credential opens one segment, and
// that segment as often as asked until it is too old.
//
// It speaks L402 (also under its old name LSAT) and the HTTP authentication
// scheme "Payment" with method lightning and intent charge. Both stand in one
// response and share one invoice, because clients that match patterns on the
// joined header mix their parameters. The provider keeps no state for either:
// what a credential says is under a MAC of the provider's secret.
type Prepaid struct {
	Till  Till
	Realm string // the provider's name in challenges; printable ASCII without quotes
}

// A Grant is what a good credential proves.
type Grant struct {
	Hash    lightning.Hash // of the payment
	Receipt string         // value of the Payment-Receipt header; empty under L402
}

// Invoice asks the node for an invoice for the segment with sealed root q over
// price, rounded up to a whole
// satoshi because the Payment scheme knows no less. Each call makes another.
func (p Prepaid) Invoice(ctx context.Context, q htlcdash.Root, price lightning.Msat) (lightning.Invoice, error) {
	if price <= 0 {
		return lightning.Invoice{}, fmt.Errorf("price of %v: %w", price, ErrTerms)
	}
	terms := lightning.Terms{Amount: p.Price(price), Expiry: p.Till.Life, Memo: Memo, Note: prepaidNote(q)}
	preimage, err := p.Till.Secret.Preimage(terms.Note, nil)
	if err != nil {
		return lightning.Invoice{}, err
	}
	inv, err := p.Till.Payee.Invoice(ctx, preimage, terms)
	if err != nil {
		return inv, fmt.Errorf("invoice: %w", err)
	}
	return inv, nil
}

// Price is what a segment of a price costs under this scheme: whole satoshis.
func (Prepaid) Price(m lightning.Msat) lightning.Msat {
	return (m + lightning.Sat - 1) / lightning.Sat * lightning.Sat
}

// Challenge returns the WWW-Authenticate lines that sell the segment with
// sealed root q for inv, in the order in which they must be sent: clients that
// look at the start of the header want L402 there. The same arguments give the
// same lines.
func (p Prepaid) Challenge(inv lightning.Invoice, q htlcdash.Root) []string {
	return []string{p.l402Challenge(inv, q), p.paymentChallenge(inv, q)}
}

// A CredentialError says under which authentication scheme a proof of payment
// failed, "L402" or "Payment", and why: Err matches [ErrMalformed], [ErrForged]
// or [ErrStale]. It never holds any of the credential.
type CredentialError struct {
	Scheme string
	Err    error
}

func (e *CredentialError) Error() string { return e.Scheme + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *CredentialError) Unwrap() error { return e.Err }

// Admit looks in the values of a request's Authorization headers for a proof
// that the segment with sealed root q was paid for. The error matches
// [ErrNoCredential] if there is none of a scheme that we know, or is a
// [*CredentialError].
func (p Prepaid) Admit(authorization []string, q htlcdash.Root, now time.Time) (Grant, error) {
	if len(authorization) > maxCredentials {
		return Grant{}, fmt.Errorf("%d Authorization headers, at most %d: %w", len(authorization), maxCredentials, ErrNoCredential)
	}
	failure := ErrNoCredential
	for _, value := range authorization {
		g, err := p.admit(value, q, now)
		if err == nil {
			return g, nil
		}
		if !errors.Is(err, ErrNoCredential) {
			failure = err
		}
	}
	return Grant{}, failure
}

func (p Prepaid) admit(value string, q htlcdash.Root, now time.Time) (Grant, error) {
	scheme, rest, _ := strings.Cut(textproto.TrimString(value), " ")
	read := p.admitL402
	switch scheme = strings.ToLower(scheme); scheme {
	case "l402", "lsat":
		scheme = "L402"
	case "payment":
		scheme, read = "Payment", p.admitPayment
	default:
		return Grant{}, ErrNoCredential
	}
	if len(rest) > maxCredentialBytes {
		return Grant{}, &CredentialError{scheme, fmt.Errorf("%d bytes: %w", len(rest), ErrMalformed)}
	}
	g, err := read(textproto.TrimString(rest), q, now)
	if err != nil {
		return Grant{}, &CredentialError{scheme, err}
	}
	return g, nil
}

// deadline is when a credential for inv stops to open its segment.
func deadline(inv lightning.Invoice) time.Time { return inv.Created.Add(inv.Expiry + Grace) }

package lnd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"gopkg.in/macaroon.v2"

	"htlcdash/lightning"
)

// Macaroon is a credential of lnd. Whoever has it may do what it says, so it
// never prints itself. The zero value is none.
type Macaroon struct {
	_ [0]func() // incomparable, because == is not constant time
	b *[]byte
}

// ParseMacaroon reads a macaroon in its binary form. The error never quotes
// it.
func ParseMacaroon(b []byte) (Macaroon, error) {
	if _, err := decodeMacaroon(b); err != nil {
		return Macaroon{}, err
	}
	b = append([]byte(nil), b...)
	return Macaroon{b: &b}, nil
}

// ReadMacaroon reads a file such as lnd's admin.macaroon: binary, or the same
// in hexadecimal.
func ReadMacaroon(file string) (Macaroon, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Macaroon{}, fmt.Errorf("macaroon: %w", err)
	}
	if text, err := hex.DecodeString(strings.TrimSpace(string(b))); err == nil {
		b = text
	}
	m, err := ParseMacaroon(b)
	if err != nil {
		return Macaroon{}, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

func decodeMacaroon(b []byte) (*macaroon.Macaroon, error) {
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(b); err != nil {
		return nil, errors.New("not a macaroon")
	}
	return &m, nil
}

// Write writes m to a new file that only its owner may read. It does not
// overwrite.
func (m Macaroon) Write(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("macaroon: %s exists already: remove it first", file)
	}
	if err != nil {
		return fmt.Errorf("macaroon: %w", err)
	}
	_, err = f.Write(*m.b)
	return errors.Join(err, f.Close())
}

// IsZero reports whether m is none.
func (m Macaroon) IsZero() bool { return m.b == nil }

// Reveal returns the secret bytes. The name is loud on purpose: grep for it.
// It panics if m is none.
func (m Macaroon) Reveal() []byte { return *m.b }

// String keeps m out of logs and errors.
func (m Macaroon) String() string {
	if m.b == nil {
		return "no macaroon"
	}
	return "macaroon"
}

// LogValue keeps m out of logs.
func (m Macaroon) LogValue() slog.Value { return slog.StringValue(m.String()) }

// Right is one call that a macaroon may allow: the URI of a method of lnd's
// gRPC interface, which its REST paths lead to.
type Right string

// BuyingRights are what a viewer's proxy needs and no more.
var BuyingRights = []Right{
	"/lnrpc.Lightning/GetInfo",
	"/lnrpc.Lightning/ChannelBalance",
	"/lnrpc.Lightning/WalletBalance",
	"/lnrpc.Lightning/ListChannels",
	"/routerrpc.Router/SendPaymentV2",
	"/routerrpc.Router/TrackPaymentV2",
}

// SellingRights are what a provider needs and no more. It cannot spend.
var SellingRights = []Right{
	"/lnrpc.Lightning/GetInfo",
	"/lnrpc.Lightning/ChannelBalance",
	"/lnrpc.Lightning/WalletBalance",
	"/lnrpc.Lightning/ListChannels",
	"/lnrpc.Lightning/AddInvoice",
	"/lnrpc.Lightning/LookupInvoice",
	"/lnrpc.Lightning/ListInvoices",
	"/lnrpc.Lightning/SubscribeInvoices",
	"/invoicesrpc.Invoices/AddHoldInvoice",
	"/invoicesrpc.Invoices/SubscribeSingleInvoice",
	"/invoicesrpc.Invoices/SettleInvoice",
	"/invoicesrpc.Invoices/CancelInvoice",
}

// TillRights are what a provider with a [Till] needs and no more. It can take
// and refuse payments that the node forwards, but not spend.
var TillRights = append(slices.Clone(SellingRights),
	"/lnrpc.Lightning/LookupHtlcResolution",
	"/routerrpc.Router/HtlcInterceptor",
	"/routerrpc.Router/SubscribeHtlcEvents",
)

// Relaying returns what a provider that also buys needs, with what it needs to
// sell: it can pay, and spend in no other way.
func Relaying(selling []Right) []Right {
	return append(slices.Clone(selling), "/routerrpc.Router/SendPaymentV2", "/routerrpc.Router/TrackPaymentV2")
}

// SpendingRights are calls by which money or power leaves the node. A macaroon
// of ours that allows one beyond what it needs is too strong.
var SpendingRights = []Right{
	"/routerrpc.Router/SendPaymentV2",
	"/routerrpc.Router/SendToRouteV2",
	"/lnrpc.Lightning/SendCoins",
	"/lnrpc.Lightning/SendMany",
	"/lnrpc.Lightning/OpenChannel",
	"/lnrpc.Lightning/OpenChannelSync",
	"/lnrpc.Lightning/BatchOpenChannel",
	"/lnrpc.Lightning/CloseChannel",
	"/lnrpc.Lightning/AbandonChannel",
	"/lnrpc.Lightning/UpdateChannelPolicy",
	"/lnrpc.Lightning/BakeMacaroon",
	"/lnrpc.Lightning/StopDaemon",
	"/lnrpc.Lightning/ExportAllChannelBackups",
	"/walletrpc.WalletKit/SendOutputs",
	"/walletrpc.WalletKit/FundPsbt",
	"/walletrpc.WalletKit/SignPsbt",
	"/walletrpc.WalletKit/FinalizePsbt",
	"/walletrpc.WalletKit/PublishTransaction",
	"/signrpc.Signer/SignOutputRaw",
}

// Audit compares what m allows with what is needed, by asking the node. It
// returns the rights that are missing and the [SpendingRights] that go beyond.
// n's own macaroon must allow /lnrpc.Lightning/CheckMacaroonPermissions.
func (n *Node) Audit(ctx context.Context, m Macaroon, need []Right) (missing, tooMuch []Right, err error) {
	for _, r := range need {
		ok, err := n.allows(ctx, m, r)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			missing = append(missing, r)
		}
	}
	for _, r := range SpendingRights {
		if slices.Contains(need, r) {
			continue
		}
		ok, err := n.allows(ctx, m, r)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			tooMuch = append(tooMuch, r)
		}
	}
	return missing, tooMuch, nil
}

// allows asks whether m opens one call. lnd answers a refusal with an error.
func (n *Node) allows(ctx context.Context, m Macaroon, right Right) (bool, error) {
	var r struct {
		Valid bool `json:"valid"`
	}
	err := n.rest.post(ctx, "/v1/macaroon/checkpermissions", struct {
		Macaroon []byte `json:"macaroon"`
		Method   string `json:"fullMethod"`
		Defaults bool   `json:"check_default_perms_from_full_method"`
	}{m.Reveal(), string(right), true}, &r)
	var said *answer
	if errors.As(err, &said) && (said.code == codeInvalid || said.says("no permissions found for full method")) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("check a macaroon: %w", err)
	}
	return r.Valid, nil
}

type permission struct {
	Entity string `json:"entity"`
	Action string `json:"action"`
}

// Bake asks the node for a macaroon that allows rights and nothing else. It
// hangs on the root key rootKey: deleting that key in lnd revokes all baked
// from it. The node's own macaroon must allow it.
func (n *Node) Bake(ctx context.Context, rights []Right, rootKey uint64) (Macaroon, error) {
	req := struct {
		Permissions []permission `json:"permissions"`
		RootKey     uint64       `json:"root_key_id,string"`
	}{RootKey: rootKey}
	for _, r := range rights {
		req.Permissions = append(req.Permissions, permission{"uri", string(r)})
	}
	var r struct {
		Macaroon secret `json:"macaroon"`
	}
	if err := n.rest.post(ctx, "/v1/macaroon", req, &r); err != nil {
		return Macaroon{}, fmt.Errorf("bake a macaroon: %w", err)
	}
	b, err := hex.DecodeString(string(r.Macaroon))
	if err != nil {
		return Macaroon{}, errors.New("bake a macaroon: the answer is none")
	}
	return ParseMacaroon(b)
}

const (
	caveatName   = "htlcdash"
	caveatPrefix = "lnd-custom " + caveatName + " "
	budgetKey    = "budget="
)

// WithBudget returns a weaker copy of m that may spend at most budget in all
// its life, fees included. lnd refuses it unless a [Node.Guard] runs. Anybody
// can make this copy, nobody can undo it; several budgets in one macaroon all
// hold.
func (m Macaroon) WithBudget(budget lightning.Msat) (Macaroon, error) {
	if budget < 0 {
		return Macaroon{}, errors.New("a budget is not negative")
	}
	d, err := decodeMacaroon(m.Reveal())
	if err != nil {
		return Macaroon{}, err
	}
	if err := d.AddFirstPartyCaveat(fmt.Appendf(nil, "%s%s%d", caveatPrefix, budgetKey, int64(budget))); err != nil {
		return Macaroon{}, fmt.Errorf("add a budget: %w", err)
	}
	b, err := d.MarshalBinary()
	if err != nil {
		return Macaroon{}, fmt.Errorf("add a budget: %w", err)
	}
	return ParseMacaroon(b)
}

package exchange_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../spec/vectors/exchange.json"

// vectors is spec/vectors/exchange.json: what another implementation must
// derive from the same secrets.
type vectors struct {
	Comment string        `json:"comment"`
	Secret  string        `json:"provider_secret"`
	Salted  saltedVector  `json:"salted"`
	Proofs  proofsVector  `json:"proofs_and_keys"`
	Tokens  tokensVector  `json:"token_sale"`
	Prepaid prepaidVector `json:"prepaid"`
}

// proofsVector is about the offer of saltedVector: what its proof is bound to,
// and how its key is asked for again.
type proofsVector struct {
	Request   exchange.ProofRequest `json:"proof_request"`
	Statement string                `json:"statement"`
	Context   string                `json:"context"`
	Answer    string                `json:"answer_with_a_proof_of_3_bytes"`
	Recall    exchange.KeyRequest   `json:"key_request"`
	Told      exchange.KeyResponse  `json:"key_response"`
}

// tokensVector is a request for tokens that is paid for.
type tokensVector struct {
	Request       string          `json:"token_request"`
	Now           int64           `json:"now"`
	Offer         json.RawMessage `json:"offer"`
	Authorization string          `json:"authorization"`
}

type saltedVector struct {
	Now      int64                 `json:"now"`
	Life     int64                 `json:"offer_life_s"`
	Counter  int64                 `json:"counter"`
	Provider htlcdash.ProviderID   `json:"provider_key"`
	KeyHash  string                `json:"key_hash"`
	Key      string                `json:"content_key"`
	Salt     string                `json:"salt"`
	Preimage string                `json:"preimage"`
	Hash     lightning.Hash        `json:"hash"`
	Request  exchange.OfferRequest `json:"request"`
	Response json.RawMessage       `json:"response"`
	Resold   resoldVector          `json:"passed_on_by_another"`
}

// resoldVector is the offer as another provider passes it on, for 100 msat more.
type resoldVector struct {
	Provider htlcdash.ProviderID `json:"provider_key"`
	Offer    json.RawMessage     `json:"offer"`
	Signed   string              `json:"signed"`
}

type prepaidVector struct {
	Sealed    htlcdash.Root `json:"sealed"`
	Realm     string        `json:"realm"`
	Invoice   string        `json:"invoice"`
	Preimage  string        `json:"preimage"`
	RootKey   string        `json:"l402_root_key"`
	TokenID   string        `json:"l402_token_id"`
	Macaroon  string        `json:"l402_macaroon_id"`
	Caveats   []string      `json:"l402_caveats"`
	Request   string        `json:"payment_request"`
	MACKey    string        `json:"payment_mac_key"`
	MACInput  string        `json:"payment_mac_input"`
	ID        string        `json:"payment_id"`
	Challenge []string      `json:"www_authenticate"`
	Good      []string      `json:"authorization"`
}

// hmacOf is written anew from spec/05-exchange.md, so that the vectors do not
// only repeat the code that they check.
func hmacOf(secret []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(bytes.Join(parts, nil))
	return h.Sum(nil)
}

func TestVectorsAreCurrent(t *testing.T) {
	secret := bytes.Repeat([]byte{0x11}, 32)
	v := vectors{
		Comment: "spec/05-exchange.md. Secrets and keys are hexadecimal, times Unix seconds. No node stands behind the invoices.",
		Secret:  hex.EncodeToString(secret),
		Salted:  saltedVectorOf(t, secret),
		Tokens:  tokensVectorOf(t, secret),
		Prepaid: prepaidVectorOf(t, secret),
	}
	v.Proofs = proofsVectorOf(t, v.Salted)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorFile, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the code makes now; if that is meant, change spec/05 and run: go test ./internal/exchange -run Vectors -update", vectorFile)
	}
}

func saltedVectorOf(t *testing.T, secret []byte) saltedVector {
	node := newPayee(start.Add(time.Minute))
	seal, key := segment(t, "vector", 2500)
	req := exchange.OfferRequest{Title: htlcdash.TitleID{0x22}, Scheme: exchange.SchemeSalted, Try: 9, Sealed: []htlcdash.Root{seal.Sealed, {0x44}}}
	till := exchange.NewTill(node, exchange.NewSecret([32]byte(secret)), 0)
	seg := htlcdash.Segment{Title: req.Title, Representation: "v1", Seal: seal}
	buyer := salter(0x33)
	offer, err := exchange.Salted{}.Sell(t.Context(), till, buyer, seg, key, 2400, req.Try, node.now)
	if err != nil {
		t.Fatal(err)
	}
	counter := node.now.Unix()/300<<24 + 9
	if offer.Counter != counter {
		t.Errorf("counter %d, want %d", offer.Counter, counter)
	}
	salt := buyer.Salt(seal.Sealed, 2400, counter)
	response, err := json.Marshal(exchange.OfferResponse{Offers: []exchange.Offer{
		offer, {Sealed: req.Sealed[1], Error: exchange.RefusedUnknown},
	}})
	if err != nil {
		t.Fatal(err)
	}
	relay := exchange.NewSecret([32]byte{0x55}).ProviderKey()
	resold := offer
	resold.Price, resold.Invoice, resold.Counter, resold.Prover = 2500, "lnbc25n1...", -5, till.Key.ID()
	if resold.Signature, err = exchange.SignOffer(relay, req.Title, seal, resold); err != nil {
		t.Fatal(err)
	}
	passedOn, err := json.Marshal(resold)
	if err != nil {
		t.Fatal(err)
	}
	a, p := key.Reveal(), node.last.Reveal()
	return saltedVector{
		Now: node.now.Unix(), Life: int64(exchange.OfferLife.Seconds()), Counter: counter, Provider: till.Key.ID(), KeyHash: hex.EncodeToString(seal.KeyHash[:]),
		Key: hex.EncodeToString(a[:]), Salt: hex.EncodeToString(salt[:]), Preimage: hex.EncodeToString(p[:]),
		Hash: offer.Hash, Request: req, Response: response,
		Resold: resoldVector{relay.ID(), passedOn, hex.EncodeToString(exchange.PromiseOf(req.Title, seal, resold).Encode())},
	}
}

func proofsVectorOf(t *testing.T, v saltedVector) proofsVector {
	resp, err := exchange.ParseOfferResponse(v.Response, v.Request)
	if err != nil {
		t.Fatal(err)
	}
	o := resp.Offers[0]
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	nonce := exchange.Nonce{0x77}
	context := slices.Concat([]byte("htlcdash/proof-context/v1"), v.Provider[:], v.Request.Title[:], o.Sealed[:], nonce[:])
	statement := slices.Concat([]byte{2}, o.Hash[:], unhex(v.KeyHash), o.Salt[:])
	seg := htlcdash.Segment{Title: v.Request.Title, Seal: htlcdash.Seal{Sealed: o.Sealed, KeyHash: [32]byte(unhex(v.KeyHash))}}
	spy := &spySystem{}
	if _, err := (exchange.Salted{}).Prove(spy, v.Provider, seg, o, htlcdash.NewKey([32]byte(unhex(v.Key))), nonce); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(spy.context, context) || !bytes.Equal(spy.statement, statement) {
		t.Error("a proof is not bound to what spec/05 says")
	}
	var answer bytes.Buffer
	if err := exchange.WriteProofs(&answer, [][]byte{{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	return proofsVector{
		Request:   exchange.ProofRequest{Title: v.Request.Title, System: "vole-80", Nonce: nonce, Sales: []exchange.SaleID{o.ID()}},
		Statement: hex.EncodeToString(statement), Context: hex.EncodeToString(context), Answer: hex.EncodeToString(answer.Bytes()),
		Recall: exchange.KeyRequest{Title: v.Request.Title, Sales: []exchange.SaleID{o.ID()}},
		Told:   exchange.KeyResponse{Preimages: []string{v.Preimage}},
	}
}

// spySystem notes what it is to prove.
type spySystem struct{ statement, context []byte }

func (*spySystem) Name() string                                 { return "spy" }
func (*spySystem) Length(proof.Kind) int                        { return 0 }
func (*spySystem) Verify(proof.Statement, []byte, []byte) error { return proof.ErrRefused }

func (s *spySystem) Prove(dst []byte, _ io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, error) {
	if !st.Holds(w) {
		return nil, proof.ErrFalse
	}
	s.statement, s.context = st.Append(nil), context
	return dst, nil
}

func tokensVectorOf(t *testing.T, secret []byte) tokensVector {
	node := newPayee(start)
	till := exchange.NewTill(node, exchange.NewSecret([32]byte(secret)), 0)
	request := []byte("a token request of spec/08")
	offer, err := till.SellTokens(t.Context(), request, 10*lightning.Sat, start)
	if err != nil {
		t.Fatal(err)
	}
	digest, epoch := sha256.Sum256(request), binary.BigEndian.AppendUint64(nil, uint64(start.Unix()/300))
	preimage := hmacOf(secret, []byte("htlcdash/token-sale/v1"), digest[:], epoch)
	if sha256.Sum256(preimage) != offer.Hash {
		t.Error("the preimage of a token sale is not what spec/04 says")
	}
	authorization := "Preimage " + hex.EncodeToString(preimage)
	if err := till.TokensPaid(request, authorization, start.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal(offer)
	if err != nil {
		t.Fatal(err)
	}
	return tokensVector{hex.EncodeToString(request), start.Unix(), b, authorization}
}

func prepaidVectorOf(t *testing.T, secret []byte) prepaidVector {
	node := newPayee(start)
	q := htlcdash.Root{0x55}
	preimage := lightning.NewPreimage([32]byte{0x66})
	inv, err := node.Invoice(t.Context(), preimage, lightning.Terms{Amount: 3 * lightning.Sat, Expiry: exchange.OfferLife, Memo: exchange.Memo})
	if err != nil {
		t.Fatal(err)
	}
	p := exchange.Prepaid{Till: exchange.NewTill(node, exchange.NewSecret([32]byte(secret)), 0), Realm: "cinema"}
	lines := p.Challenge(inv, q)
	reveal := preimage.Reveal()
	b := bought{strings.Join(lines, ", "), hex.EncodeToString(reveal[:]), inv}
	v := prepaidVector{
		Sealed: q, Realm: p.Realm, Invoice: inv.Bolt11, Preimage: b.preimage, Challenge: lines,
		Good: []string{b.l402(), b.payment(nil)},
	}
	raw, err := base64.StdEncoding.DecodeString(params(b.joined)["token"])
	if err != nil {
		t.Fatal(err)
	}
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	token := hmacOf(secret, []byte("htlcdash/l402-token/v1"), inv.Hash[:], q[:])
	id := bytes.Join([][]byte{{0, 0}, inv.Hash[:], token}, nil)
	root := hmacOf(secret, []byte("htlcdash/l402-root/v1"), id)
	if !bytes.Equal(m.Id(), id) {
		t.Error("the macaroon's identifier is not what spec/05 says")
	}
	if v.Caveats, err = m.VerifySignature(root, nil); err != nil {
		t.Errorf("the macaroon's root key is not what spec/05 says: %v", err)
	}
	v.TokenID, v.Macaroon, v.RootKey = hex.EncodeToString(token), hex.EncodeToString(id), hex.EncodeToString(root)

	c := params(b.joined)
	macKey := hmacOf(secret, []byte("htlcdash/payment-id/v1"))
	v.MACInput = strings.Join([]string{"cinema", "lightning", "charge", c["request"], c["expires"], "", ""}, "|")
	v.ID = base64.RawURLEncoding.EncodeToString(hmacOf(macKey, []byte(v.MACInput)))
	if v.ID != c["id"] {
		t.Error("the challenge's id is not what spec/05 says")
	}
	request, err := base64.RawURLEncoding.DecodeString(c["request"])
	if err != nil {
		t.Fatal(err)
	}
	v.Request, v.MACKey = string(request), hex.EncodeToString(macKey)
	for _, header := range v.Good {
		if _, err := p.Admit([]string{header}, q, start); err != nil {
			t.Error(err)
		}
	}
	return v
}

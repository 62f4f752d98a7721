package credential_test

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	"github.com/cloudflare/circl/zk/dleq"

	"htlcdash"
	"htlcdash/internal/credential"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../spec/vectors/credential.json"

// hexes are bytes in JSON: hexadecimal, lists of them as RFC 9497's vectors
// have them, with commas between.
type (
	hexBytes []byte
	commas   [][]byte
)

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

func (c *commas) UnmarshalText(b []byte) error {
	for s := range strings.SplitSeq(string(b), ",") {
		raw, err := hex.DecodeString(s)
		if err != nil {
			return err
		}
		*c = append(*c, raw)
	}
	return nil
}

func plain(hs []hexBytes) (out [][]byte) {
	for _, h := range hs {
		out = append(out, h)
	}
	return out
}

// prove makes the proof of a response with given randomness, as RFC 9497,
// 2.2.1, has it, and so a response that is the same each time.
func prove(t *testing.T, scalar []byte, request, response, random []byte) []byte {
	t.Helper()
	g := group.Ristretto255
	elements := func(b []byte) (out []group.Element) {
		for raw := range slices.Chunk(b, 32) {
			e := g.NewElement()
			if err := e.UnmarshalBinary(raw); err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		return out
	}
	number := func(b []byte) group.Scalar {
		s := g.NewScalar()
		if err := s.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		return s
	}
	k := number(scalar)
	p := dleq.Prover{Params: dleq.Params{G: g, H: crypto.SHA512, DST: []byte("OPRFV1-\x01-ristretto255-SHA512")}}
	proof, err := p.ProveBatchWithRandomnessRFC9497(k, g.NewElement().MulGen(k), elements(request), elements(response), number(random))
	if err != nil {
		t.Fatal(err)
	}
	return must[[]byte](t)(proof.MarshalBinary())
}

// varint is written from RFC 9000, 16.
func varint(n int) []byte {
	if n < 64 {
		return []byte{byte(n)}
	}
	return []byte{0x40 | byte(n>>8), byte(n)}
}

// The VOPRF is that of RFC 9497: requests, responses, proofs and outputs are
// the published ones.
func TestRFC9497(t *testing.T) {
	var v struct {
		KeyInfo hexBytes `json:"keyInfo"`
		Public  hexBytes `json:"pkSm"`
		Seed    hexBytes `json:"seed"`
		Private hexBytes `json:"skSm"`
		Vectors []struct {
			Blind, BlindedElement, EvaluationElement, Input, Output commas
			Proof                                                   struct {
				Proof hexBytes `json:"proof"`
				R     hexBytes `json:"r"`
			}
		} `json:"vectors"`
	}
	file := must[[]byte](t)(os.ReadFile("testdata/rfc9497-voprf-ristretto255.json"))
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	derived := must[*oprf.PrivateKey](t)(oprf.DeriveKey(oprf.SuiteRistretto255, oprf.VerifiableMode, v.Seed, v.KeyInfo))
	if got := must[[]byte](t)(derived.MarshalBinary()); !bytes.Equal(got, v.Private) {
		t.Errorf("private key %x, want %x", got, v.Private)
	}
	k := must[credential.IssuerKey](t)(credential.NewIssuerKeyOf(v.Private))
	if pub := k.Public(); !bytes.Equal(pub[:], v.Public) {
		t.Errorf("public key %v, want %x", pub, v.Public)
	}
	if len(v.Vectors) != 3 {
		t.Fatalf("%d vectors, want 3", len(v.Vectors))
	}
	for i, c := range v.Vectors {
		request, p, err := credential.BlindWith(k.Public(), c.Input, c.Blind)
		if err != nil {
			t.Fatal(err)
		}
		blinded, evaluated := slices.Concat(c.BlindedElement...), slices.Concat(c.EvaluationElement...)
		id := k.ID()
		if want := slices.Concat([]byte{0, 5, id[31]}, varint(len(blinded)), blinded); !bytes.Equal(request, want) {
			t.Errorf("%d: request %x, want %x", i, request, want)
		}
		response := must[[]byte](t)(k.Issue(request))
		if got := response[len(response)-64-len(evaluated) : len(response)-64]; !bytes.Equal(got, evaluated) {
			t.Errorf("%d: evaluated %x, want %x", i, got, evaluated)
		}
		if got := prove(t, v.Private, blinded, evaluated, c.Proof.R); !bytes.Equal(got, c.Proof.Proof) {
			t.Errorf("%d: proof %x, want %x", i, got, c.Proof.Proof)
		}
		published := slices.Concat(varint(len(evaluated)), evaluated, c.Proof.Proof)
		for _, r := range [][]byte{response, published} {
			for j, got := range must[[]credential.Credential](t)(p.Finish(r)) {
				if !bytes.Equal(got.Shared.Reveal(), c.Output[j]) {
					t.Errorf("%d: output %x, want %x", i, got.Shared.Reveal(), c.Output[j])
				}
				if s := k.RedeemInput(c.Input[j]); !bytes.Equal(s.Reveal(), c.Output[j]) {
					t.Errorf("%d: redeemed %x, want %x", i, s.Reveal(), c.Output[j])
				}
			}
		}
	}
}

// foreignVector is a vector of other Privacy Pass implementations for tokens
// of type 5, for one token (RFC 9578) or for a batch.
type foreignVector struct {
	Private   hexBytes   `json:"skS"`
	Public    hexBytes   `json:"pkS"`
	Challenge hexBytes   `json:"token_challenge"`
	Nonces    []hexBytes `json:"nonces"`
	Nonce     hexBytes   `json:"nonce"`
	Blinds    []hexBytes `json:"blinds"`
	Blind     hexBytes   `json:"blind"`
	Request   hexBytes   `json:"token_request"`
	Response  hexBytes   `json:"token_response"`
	Tokens    []hexBytes `json:"tokens"`
	Token     hexBytes   `json:"token"`
}

// TestForeignVectors reads the vectors for type 5 of other implementations out
// of the folder that CREDENTIAL_VECTORS names: the files
// type5-issuance-test-vectors*.json of github.com/cloudflare/pat-go, tokens/private
// and tokens/amortized, made with Go and with Rust. They are not kept here.
func TestForeignVectors(t *testing.T) {
	folder := os.Getenv("CREDENTIAL_VECTORS")
	if folder == "" {
		t.Skip("CREDENTIAL_VECTORS names no folder; what is checked without it: RFC 9497's vectors, and ours")
	}
	files := must[[]string](t)(filepath.Glob(filepath.Join(folder, "*.json")))
	if len(files) == 0 {
		t.Fatalf("no vectors in %s", folder)
	}
	for _, name := range files {
		var all []foreignVector
		if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(name)), &all); err != nil {
			t.Fatal(name, err)
		}
		tokens := 0
		for _, v := range all {
			tokens += v.check(t)
		}
		t.Logf("%s: %d vectors, %d tokens", filepath.Base(name), len(all), tokens)
	}
}

func (v foreignVector) check(t *testing.T) int {
	t.Helper()
	if v.Token != nil { // a batch of one, which has a length in front of its element
		v.Nonces, v.Blinds, v.Tokens = []hexBytes{v.Nonce}, []hexBytes{v.Blind}, []hexBytes{v.Token}
		v.Request = slices.Concat(v.Request[:3], []byte{32}, v.Request[3:])
		v.Response = append(hexBytes{32}, v.Response...)
	}
	k := must[credential.IssuerKey](t)(credential.NewIssuerKeyOf(v.Private))
	pub, id, digest := k.Public(), k.ID(), sha256.Sum256(v.Challenge)
	if !bytes.Equal(pub[:], v.Public) {
		t.Errorf("public key %v, want %x", pub, v.Public)
	}
	var inputs [][]byte
	for _, n := range v.Nonces {
		inputs = append(inputs, slices.Concat([]byte{0, 5}, n, digest[:], id[:]))
	}
	request, p, err := credential.BlindWith(pub, inputs, plain(v.Blinds))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(request, v.Request) {
		t.Errorf("request %x, want %x", request, v.Request)
	}
	response := must[[]byte](t)(k.Issue(v.Request))
	if n := len(response) - 64; !bytes.Equal(response[:n], v.Response[:n]) {
		t.Errorf("response %x, want %x", response, v.Response)
	}
	for _, r := range [][]byte{v.Response, response} {
		for i, c := range must[[]credential.Credential](t)(p.Finish(r)) {
			if got := slices.Concat(inputs[i], c.Shared.Reveal()); !bytes.Equal(got, v.Tokens[i]) {
				t.Errorf("token %x, want %x", got, v.Tokens[i])
			}
			if s := k.RedeemInput(inputs[i]); !bytes.Equal(s.Reveal(), v.Tokens[i][98:]) {
				t.Errorf("redeemed %x, want %x", s.Reveal(), v.Tokens[i][98:])
			}
		}
	}
	return len(v.Tokens)
}

// vectors is spec/vectors/credential.json.
type vectors struct {
	Comment   string         `json:"comment"`
	Secret    hexBytes       `json:"provider_secret"`
	Epoch     uint32         `json:"epoch"`
	Seed      hexBytes       `json:"seed"`
	Info      hexBytes       `json:"key_info"`
	Private   hexBytes       `json:"private_key"`
	Public    hexBytes       `json:"public_key"`
	KeyID     hexBytes       `json:"key_id"`
	Challenge hexBytes       `json:"token_challenge"`
	Header    string         `json:"www_authenticate"`
	Batches   []batchVector  `json:"batches"`
	Shown     shownVector    `json:"authorization"`
	Derived   derivedVector  `json:"derived"`
	Refused   refusedVectors `json:"refused"`
}

type batchVector struct {
	Nonces      []hexBytes `json:"nonces"`
	Blinds      []hexBytes `json:"blinds"`
	Request     hexBytes   `json:"request"`
	ProofRandom hexBytes   `json:"proof_random"`
	Response    hexBytes   `json:"response"`
	Credentials []hexBytes `json:"credentials"`
}

type shownVector struct {
	Method   string   `json:"method"`
	Path     string   `json:"path"`
	Body     string   `json:"body"`
	Time     int64    `json:"time"`
	MACInput hexBytes `json:"mac_input"`
	MAC      hexBytes `json:"mac"`
	Header   string   `json:"header"`
}

type derivedVector struct {
	Root    hexBytes `json:"root"`
	Price   int64    `json:"price_msat"`
	Counter int64    `json:"counter"`
	Salt    hexBytes `json:"salt"`
	Master  hexBytes `json:"master_secret"`
	Index   uint64   `json:"chunk_index"`
	Chunk   hexBytes `json:"chunk_key"`
}

type refusedVectors struct {
	Requests  map[string]hexBytes `json:"requests"`
	Responses map[string]hexBytes `json:"responses_to_the_first_batch"`
	Headers   map[string]string   `json:"authorizations"`
}

func hmacOf(secret []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(bytes.Join(parts, nil))
	return h.Sum(nil)
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func TestVectorsAreCurrent(t *testing.T) {
	provider := bytes.Repeat([]byte{0x11}, 32)
	const epoch = 2975
	k := must[credential.IssuerKey](t)(credential.NewIssuerKey([32]byte(provider), epoch))
	pub, id := k.Public(), k.ID()
	v := vectors{
		Comment:   "spec/08-credential.md. Bytes are hexadecimal, times Unix seconds.",
		Secret:    provider,
		Epoch:     epoch,
		Seed:      hmacOf(provider, []byte("htlcdash/issuer/v1")),
		Info:      slices.Concat([]byte("htlcdash/issuer/v1"), u64(epoch)[4:]),
		Public:    pub[:],
		KeyID:     id[:],
		Challenge: slices.Concat([]byte{0, 5, 0, 8}, []byte("htlcdash"), []byte{0, 0, 0}),
		Header:    pub.Challenge(),
	}
	key := must[*oprf.PrivateKey](t)(oprf.DeriveKey(oprf.SuiteRistretto255, oprf.VerifiableMode, v.Seed, v.Info))
	v.Private = must[[]byte](t)(key.MarshalBinary())
	if got := must[[]byte](t)(key.Public().MarshalBinary()); !bytes.Equal(got, v.Public) {
		t.Error("the key is not derived as spec/08 says")
	}
	if want := `PrivateToken challenge="` + base64.URLEncoding.EncodeToString(v.Challenge) + `", token-key="` + base64.URLEncoding.EncodeToString(pub[:]) + `"`; v.Header != want {
		t.Errorf("challenge %s, want %s", v.Header, want)
	}
	v.Batches = []batchVector{v.batch(t, k, 1), v.batch(t, k, 3)}
	c := must[credential.Credential](t)(credential.ParseCredential(v.Batches[1].Credentials[0]))
	v.Shown = shownVectorOf(t, c)
	v.Derived = derivedVectorOf(t, c)
	v.Refused = v.refused(t, k)
	compare(t, v)
}

func (v vectors) batch(t *testing.T, k credential.IssuerKey, n int) (b batchVector) {
	t.Helper()
	digest := sha256.Sum256(v.Challenge)
	var inputs [][]byte
	for i := range n {
		nonce := sha256.Sum256([]byte{byte(n), byte(i), 'n'})
		blind := sha256.Sum256([]byte{byte(n), byte(i), 'b'})
		blind[31] &= 0x0f // below the order of the group
		b.Nonces, b.Blinds = append(b.Nonces, nonce[:]), append(b.Blinds, blind[:])
		inputs = append(inputs, slices.Concat([]byte{0, 5}, nonce[:], digest[:], v.KeyID))
		if got := (credential.Token{Nonce: nonce, KeyID: k.ID()}).Input(); !bytes.Equal(got, inputs[i]) {
			t.Errorf("token input %x, want %x", got, inputs[i])
		}
	}
	request, p, err := credential.BlindWith(k.Public(), inputs, plain(b.Blinds))
	if err != nil {
		t.Fatal(err)
	}
	random := sha256.Sum256([]byte{byte(n), 'r'})
	random[31] &= 0x0f
	head := len(varint(32 * n))
	evaluated := must[[]byte](t)(k.Issue(request))[:head+32*n]
	b.Request, b.ProofRandom = request, random[:]
	b.Response = append(evaluated, prove(t, v.Private, request[3+head:], evaluated[head:], random[:])...)
	for i, c := range must[[]credential.Credential](t)(p.Finish(b.Response)) {
		kept := slices.Concat(inputs[i], c.Shared.Reveal())
		parsed := must[credential.Credential](t)(credential.ParseCredential(kept))
		if !bytes.Equal(parsed.Reveal(), kept) || !bytes.Equal(k.Redeem(parsed.Token).Reveal(), kept[98:]) {
			t.Error("a credential is not what spec/08 says")
		}
		b.Credentials = append(b.Credentials, kept)
	}
	return b
}

func shownVectorOf(t *testing.T, c credential.Credential) shownVector {
	t.Helper()
	v := shownVector{Method: "POST", Path: "/v1/offers?n=1", Body: `{"sealed":[]}`, Time: now.Unix()}
	v.Header = c.Authorization(v.Method, v.Path, []byte(v.Body), now)
	digest := sha256.Sum256([]byte(v.Body))
	v.MACInput = slices.Concat([]byte("htlcdash/credential-mac/v1"), digest[:], u64(uint64(v.Time)), u64(uint64(len(v.Method))), []byte(v.Method), []byte(v.Path))
	v.MAC = hmacOf(c.Shared.Reveal(), v.MACInput)
	want := `PrivateToken token="` + base64.URLEncoding.EncodeToString(c.Input()) + `", time="` + strconv.FormatInt(v.Time, 10) +
		`", mac="` + base64.URLEncoding.EncodeToString(v.MAC) + `"`
	if v.Header != want {
		t.Errorf("header %s, want %s", v.Header, want)
	}
	return v
}

func derivedVectorOf(t *testing.T, c credential.Credential) derivedVector {
	t.Helper()
	root, master := htlcdash.Root(bytes.Repeat([]byte{0x22}, 32)), [32]byte(bytes.Repeat([]byte{0x33}, 32))
	v := derivedVector{Root: root[:], Price: 2400, Counter: 6, Master: master[:], Index: 9}
	v.Salt = hmacOf(c.Shared.Reveal(), []byte("htlcdash/salt/v2"), root[:], u64(2400), u64(6))
	v.Chunk = hmacOf(master[:], []byte("htlcdash/chunk/v1"), c.Shared.Reveal(), root[:], u64(9), u64(6))
	if got := c.Shared.Salt(root, 2400, 6); !bytes.Equal(got[:], v.Salt) {
		t.Error("the salt is not what spec/08 says")
	}
	if got := c.Shared.ChunkKey(master, root, 9, 6).Reveal(); !bytes.Equal(got[:], v.Chunk) {
		t.Error("the chunk key is not what spec/08 says")
	}
	return v
}

// refused makes what must be refused, and sees that it is.
func (v vectors) refused(t *testing.T, k credential.IssuerKey) refusedVectors {
	t.Helper()
	b := v.Batches[0]
	r := refusedVectors{
		Requests: map[string]hexBytes{
			"identity":      slices.Concat(b.Request[:4], make([]byte, 32)),
			"longer_length": slices.Concat(b.Request[:3], []byte{0x40, 32}, b.Request[4:]),
			"trailing_byte": append(slices.Clone(b.Request), 0),
			"not_canonical": slices.Concat(b.Request[:4], []byte{b.Request[4] ^ 1}, b.Request[5:]),
			"no_elements":   slices.Concat(b.Request[:3], []byte{0}),
			"33_elements":   slices.Concat(b.Request[:3], []byte{0x44, 0x20}, bytes.Repeat(b.Request[4:], 33)),
			"another_key":   slices.Concat(b.Request[:2], []byte{b.Request[2] ^ 1}, b.Request[3:]),
		},
		Responses: map[string]hexBytes{
			"another_proof":    slices.Concat(b.Response[:33], v.Batches[1].Response[98:]),
			"not_evaluated":    slices.Concat(b.Response[:1], b.Request[4:], b.Response[33:]),
			"trailing_byte":    append(slices.Clone(b.Response), 0),
			"scalar_too_large": slices.Concat(b.Response[:33], bytes.Repeat([]byte{0xff}, 64)),
		},
		Headers: map[string]string{
			"another_time": strings.Replace(v.Shown.Header, strconv.FormatInt(v.Shown.Time, 10), strconv.FormatInt(v.Shown.Time+1, 10), 1),
			"no_padding":   strings.Replace(v.Shown.Header, `=", time`, `", time`, 1),
			"no_mac":       v.Shown.Header[:strings.Index(v.Shown.Header, ", mac")],
			"trailing":     v.Shown.Header + ",",
		},
	}
	for name, request := range r.Requests {
		if _, err := k.Issue(request); err == nil {
			t.Errorf("request %s was answered", name)
		}
	}
	_, p, err := credential.BlindWith(k.Public(), [][]byte{b.Credentials[0][:98]}, plain(b.Blinds))
	if err != nil {
		t.Fatal(err)
	}
	for name, response := range r.Responses {
		if _, err := p.Finish(response); err == nil {
			t.Errorf("response %s was taken", name)
		}
	}
	for name, header := range r.Headers {
		shown, err := credential.ParseAuthorization(header)
		if err == nil {
			err = shown.Verify(k.Redeem(shown.Token), v.Shown.Method, v.Shown.Path, []byte(v.Shown.Body), time.Unix(v.Shown.Time, 0))
		}
		if err == nil {
			t.Errorf("authorization %s was taken", name)
		}
	}
	return r
}

func compare(t *testing.T, v vectors) {
	t.Helper()
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
	if want := must[[]byte](t)(os.ReadFile(vectorFile)); !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the code makes now; if that is meant, change spec/08 and run: go test ./internal/credential -run Vectors -update", vectorFile)
	}
}

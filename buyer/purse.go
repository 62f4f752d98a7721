package buyer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A purse is what we have of anonymous credentials for one provider: one in use
// for each berth, so that titles are not linked, and for at most as long as the
// provider lets one serve. The others lie in the books.
type purse struct {
	lock chan struct{} // holds a token while nobody fills the purse

	mu     sync.Mutex
	info   ProviderInfo
	asked  time.Time // when info was asked for
	passes map[berth]*pass
	told   sync.Once // that no more are bought
}

// A berth is what one credential at a time is used for: a title, and where keys
// are bought to be sold on, a number besides. Whom the keys are for is not to be
// linked by it, and who asks for much uses up the rations of one berth only.
type berth struct {
	title  htlcdash.TitleID
	number uint8 // 0: what the buyer itself wants
}

// A pass is a credential in use.
type pass struct {
	credential credential.Credential
	account    *account // for sealed bytes
	until      time.Time
}

func newPurse() *purse {
	p := &purse{lock: make(chan struct{}, 1), passes: make(map[berth]*pass)}
	p.lock <- struct{}{}
	return p
}

const (
	infoLife   = 10 * time.Minute // of what a provider says of itself
	passMargin = time.Minute      // before a pass has served its time
	maxServe   = 24 * time.Hour   // that a provider may call the life of a pass
)

// live returns the pass of a berth, if there is one that serves.
func (p *purse) live(of berth) *pass {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.passes[of]; v != nil && time.Now().Before(v.until) {
		return v
	}
	return nil
}

// drop forgets a pass that the provider refuses, and what it says of itself:
// its keys may have changed.
func (p *purse) drop(of berth, v *pass) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passes[of] == v {
		delete(p.passes, of)
		p.asked = time.Time{}
	}
}

// known is what the provider said of itself last.
func (p *purse) known() ProviderInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// pass returns the credential to show to p for a title: the one in use, or a
// new one out of the books or from the provider: if free, not for money.
func (b *Buyer) pass(ctx context.Context, p *peer, t *title, free bool) (*pass, error) {
	if v := p.purse.live(t.berth()); v != nil {
		return v, nil
	}
	select {
	case <-p.purse.lock:
		defer func() { p.purse.lock <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if v := p.purse.live(t.berth()); v != nil {
		return v, nil
	}
	info, err := b.info(ctx, p)
	if err != nil {
		return nil, err
	}
	payer := t
	if free {
		payer = nil
	}
	c, err := b.credential(ctx, p, payer, info)
	if err != nil {
		return nil, fmt.Errorf("%s: credential: %w", p, err)
	}
	serves := min(max(time.Duration(info.Credentials.Life)*time.Second-passMargin, passMargin), maxServe)
	v := &pass{c, newAccount(), time.Now().Add(serves)}
	p.purse.mu.Lock()
	p.purse.passes[t.berth()] = v
	p.purse.mu.Unlock()
	return v, nil
}

// meet asks p, ahead of need, what it says of itself, and for credentials where
// there are none in the books and they cost nothing. None is shown.
func (b *Buyer) meet(p *peer) {
	if !p.ok() {
		return
	}
	ctx, cancel := context.WithTimeout(b.alive, offerTimeout)
	defer cancel()
	select {
	case <-p.purse.lock:
		defer func() { p.purse.lock <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	info, err := b.info(ctx, p)
	if err == nil && info.Credentials.Price == 0 {
		var n int
		if n, err = b.c.Ledger.CountCredentials(ctx, p.URL()); err == nil && n == 0 {
			err = b.fetchTokens(ctx, p, nil, info)
		}
	}
	if err != nil {
		b.c.Log.Debug("not met", "provider", p.URL(), "err", err)
	}
}

// info is what p says of itself, asked for now and then.
func (b *Buyer) info(ctx context.Context, p *peer) (ProviderInfo, error) {
	p.purse.mu.Lock()
	info, asked := p.purse.info, p.purse.asked
	p.purse.mu.Unlock()
	if time.Since(asked) < infoLife {
		return info, b.keyIsGood(p, info.Key)
	}
	info, err := p.Info(ctx)
	if err != nil {
		return info, err
	}
	if info.Key == (htlcdash.ProviderID{}) || len(info.Credentials.Keys) == 0 {
		return info, fmt.Errorf("%s names no key to sign offers, or none for credentials: %w", p, htlcdash.ErrFormat)
	}
	if err := errors.Join(b.sameKeys(ctx, p, info), b.keyIsGood(p, info.Key)); err != nil {
		return info, err
	}
	p.purse.mu.Lock()
	defer p.purse.mu.Unlock()
	p.purse.info, p.purse.asked = info, time.Now()
	return info, nil
}

func (b *Buyer) keyIsGood(p *peer, key htlcdash.ProviderID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.judgeKey(p, key)
}

// judgeKey refuses a provider that signs with the key of one that has cheated,
// at whatever address. It needs b.mu.
func (b *Buyer) judgeKey(p *peer, key htlcdash.ProviderID) error {
	ban, ok := b.bans[key.String()]
	if !ok || !time.Now().Before(ban.Until) {
		return nil
	}
	p.banish(ban)
	return fmt.Errorf("%s signs with the key of a banned provider: %s: %w", p, ban.Reason, ErrNoOffer)
}

// A shownKey is a key for credentials that a provider has shown, which signs with
// another.
type shownKey struct {
	Provider htlcdash.ProviderID `json:"provider"`
	IssuerKey
}

// maxShown bounds the keys that are remembered of an address, until they expire.
const maxShown = 4 * maxKeys

// sameKeys holds the keys that p shows for credentials against those that it
// showed before: who gets a key of its own is known by it. A provider with a
// new secret has a new key for its offers, too, and is another one. One that shows
// so many that some would be forgotten could change those.
func (b *Buyer) sameKeys(ctx context.Context, p *peer, info ProviderInfo) error {
	var before []shownKey
	switch record, err := b.c.Ledger.Issuer(ctx, p.URL()); {
	case errors.Is(err, htlcdash.ErrNotFound):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(record, &before); err != nil {
			return fmt.Errorf("keys of %s: %w: %w", p, err, ledger.ErrDamaged)
		}
	}
	var own, others []shownKey
	for _, k := range before {
		switch {
		case time.Now().Unix() >= k.Expires:
		case k.Provider == info.Key:
			own = append(own, k)
		default:
			others = append(others, k)
		}
	}
	for _, k := range info.Credentials.Keys {
		i := slices.IndexFunc(own, func(o shownKey) bool { return o.Expires == k.Expires })
		if i >= 0 && own[i].Key != k.Key {
			return fmt.Errorf("%s: another key for the same time, by which it could tell you from others: %w", p, credential.ErrIssuer)
		}
		if i < 0 {
			own = append(own, shownKey{info.Key, k})
		}
	}
	if len(own) > maxShown {
		return fmt.Errorf("%s: more than %d keys, by which it could tell you from others: %w", p, maxShown, credential.ErrIssuer)
	}
	others = others[max(0, len(others)+len(own)-maxShown):] // the latest
	record, err := json.Marshal(append(others, own...))
	if err != nil {
		return err
	}
	return b.c.Ledger.KeepIssuer(ctx, p.URL(), record)
}

// credential takes one out of the books that one of p's keys made. If there is
// none it gets some: without a title, not for money.
func (b *Buyer) credential(ctx context.Context, p *peer, t *title, info ProviderInfo) (credential.Credential, error) {
	good := make(map[credential.KeyID]bool)
	for _, k := range info.Credentials.Keys {
		good[credential.PublicKey(k.Key).ID()] = time.Now().Unix() < k.Expires
	}
	for got := false; ; got = true {
		for {
			blob, err := b.c.Ledger.TakeCredential(ctx, p.URL())
			if errors.Is(err, htlcdash.ErrNotFound) {
				break
			}
			if err != nil {
				return credential.Credential{}, err
			}
			c, err := credential.ParseCredential(blob)
			if err != nil {
				return c, err
			}
			if good[c.KeyID] {
				return c, nil
			} // else its key has expired
		}
		if got {
			return credential.Credential{}, errors.New("the provider's keys change while it gives out credentials")
		}
		if err := b.fetchTokens(ctx, p, t, info); err != nil {
			return credential.Credential{}, err
		}
	}
}

// issues reports whether key is one of those for credentials.
func (info ProviderInfo) issues(key credential.PublicKey) bool {
	return slices.ContainsFunc(info.Credentials.Keys, func(k IssuerKey) bool { return credential.PublicKey(k.Key) == key })
}

// A tokenOrder is a request for tokens that can be made again after a crash:
// what was paid for must not be lost.
type tokenOrder struct {
	key  credential.PublicKey
	seed [32]byte
	hash lightning.Hash // of the payment; zero where none is needed
}

// ordered is the setting in the books where the open order at a provider lies.
func ordered(p *peer) string { return "tokens/" + p.URL() }

func (o tokenOrder) String() string { return fmt.Sprintf("%x%x%x", o.key[:], o.seed[:], o.hash[:]) }

func parseOrder(s string) (o tokenOrder, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 96 {
		return o, fmt.Errorf("order of tokens: %w", ledger.ErrDamaged)
	}
	copy(o.key[:], b)
	copy(o.seed[:], b[32:])
	copy(o.hash[:], b[64:])
	return o, nil
}

// blind makes the request. Its randomness comes from the seed, which is secret.
func (o tokenOrder) blind(n int) ([]byte, *credential.Pending, error) {
	return credential.Blind(o.key, n, mrand.NewChaCha8(o.seed))
}

// errTokensCost means that a provider sells its credentials, and that none are
// to be bought for what they are wanted for.
var errTokensCost = fmt.Errorf("credentials cost money: %w", exchange.ErrRefused)

// tokenBatch is how many tokens are fetched at once: for a day of films.
const tokenBatch = 16

// fetchTokens gets a batch of tokens from p, and pays for it where p sells
// them and the viewer allows the price; without a title it does not pay.
func (b *Buyer) fetchTokens(ctx context.Context, p *peer, t *title, info ProviderInfo) error {
	order := tokenOrder{key: credential.PublicKey(info.Credentials.Keys[0].Key)}
	if s, err := b.c.Ledger.Setting(ctx, ordered(p)); err == nil {
		if order, err = parseOrder(s); err != nil {
			return err
		}
	}
	if !info.issues(order.key) || order.seed == ([32]byte{}) { // what an older key makes is good for nothing
		order = tokenOrder{key: credential.PublicKey(info.Credentials.Keys[0].Key)}
		rand.Read(order.seed[:]) // never fails, see crypto/rand
	}
	request, pending, err := order.blind(min(tokenBatch, max(info.Credentials.MaxBatch, 1)))
	if err != nil {
		return err
	}
	response, offer, err := p.tokens(ctx, request, lightning.Preimage{})
	if err == nil && offer != nil && t == nil {
		err = errTokensCost
	}
	if err == nil && offer != nil {
		var preimage lightning.Preimage
		if preimage, err = b.buyTokens(ctx, p, t, &order, request, offer); err == nil {
			response, _, err = p.tokens(ctx, request, preimage)
		}
	}
	if err != nil {
		return err
	}
	got, err := pending.Finish(response)
	if err != nil {
		return err
	}
	blobs := make([][]byte, len(got))
	for i, c := range got {
		blobs[i] = c.Reveal()
	}
	if err := b.c.Ledger.AddCredentials(ctx, p.URL(), order.key.ID(), blobs); err != nil {
		return err
	}
	return b.c.Ledger.Unset(ctx, ordered(p))
}

// buyTokens pays for the answer to request, once: the payment is one for a key
// like any other, where the key is the preimage itself.
func (b *Buyer) buyTokens(ctx context.Context, p *peer, t *title, order *tokenOrder, request, offer []byte) (lightning.Preimage, error) {
	if order.hash != (lightning.Hash{}) { // ordered in an earlier run
		key, err := b.c.Ledger.Key(ctx, htlcdash.Seal{KeyHash: order.hash})
		if err == nil {
			return lightning.NewPreimage(key.Reveal()), nil
		}
		if f := b.flight(htlcdash.Segment{Seal: htlcdash.Seal{KeyHash: order.hash}}); f != nil {
			return preimageOf(f.wait(ctx))
		}
	}
	o, inv, err := exchange.ParseTokenOffer(offer, b.c.TokenPrice, time.Now())
	if err != nil {
		return lightning.Preimage{}, err
	}
	if err := b.mayBuyTokens(ctx, p, t, o.Price); err != nil {
		return lightning.Preimage{}, err
	}
	order.hash = o.Hash
	if err := b.c.Ledger.Set(ctx, ordered(p), order.String()); err != nil {
		return lightning.Preimage{}, err
	}
	seg := htlcdash.Segment{Title: t.id, Representation: ledger.Credentials, Seal: htlcdash.Seal{
		Sealed: sha256.Sum256(request), KeyHash: o.Hash, Price: o.Price,
	}}
	q := &quote{peer: p, inv: inv, Offer: exchange.Offer{Sealed: seg.Sealed, Price: o.Price, Hash: o.Hash, Expires: o.Expires}}
	if err := p.expose(ctx, o.Price, b.c.TokenPrice, b.c.Patience); err != nil {
		return lightning.Preimage{}, err
	}
	f, mine, err := b.begin(ctx, seg, q, nil, o.Price)
	if !mine {
		p.proved(o.Price)
	}
	if err != nil {
		return lightning.Preimage{}, err
	}
	return preimageOf(f.wait(ctx))
}

// errTokensOften means that a provider wants to sell more credentials than it
// has earned by keys.
var errTokensOften = fmt.Errorf("credentials used up, and too few keys sold for them: %w", exchange.ErrRefused)

// mayBuyTokens bounds what the credentials of p may cost for a title, in all
// runs: [Config.TokenPrice], and what its keys of that title have cost. Else
// one that refuses them all could sell batch after batch. Who resells is bounded by
// what it has earned instead: those who ask it for offers need not pay, and could
// have it buy batch after batch.
func (b *Buyer) mayBuyTokens(ctx context.Context, p *peer, t *title, price lightning.Msat) error {
	var tokens, all, keys, spent lightning.Msat // tokens of p, of all; keys of p; all but tokens
	for bought, err := range b.c.Ledger.Purchases(ctx, ledger.Filter{Title: &t.id}) {
		if err != nil {
			return err
		}
		if bought.State == lightning.Failed {
			continue
		}
		mine, cost := bought.Provider == p.URL(), bought.Amount+bought.Fee
		switch {
		case rungOf(bought) == ledger.Credentials:
			all += cost
			if mine {
				tokens += bought.Amount
			}
			continue
		case mine && bought.State == lightning.Paid && !bought.Lost && !bought.IsCarriage():
			keys += bought.Amount
		}
		spent += cost
	}
	if tokens+price <= b.c.TokenPrice {
		return nil
	}
	if !b.c.Resells {
		if tokens+price > b.c.TokenPrice+keys {
			return fmt.Errorf("%v, and %v more, for keys of %v: %w", tokens, price, keys, errTokensOften)
		}
		return nil
	}
	earned, err := b.c.Ledger.EarnedBy(ctx, t.id)
	if err != nil {
		return err
	}
	if gain := earned - spent; all+price > b.c.TokenPrice+gain {
		err = fmt.Errorf("%v were paid for credentials, and %v more are asked, where %v was gained by selling on: %w", all, price, gain, errTokensCost)
		p.purse.told.Do(func() {
			b.c.Log.Warn("no more credentials are bought for a title until it has earned them", "provider", p.URL(), "title", t.id, "err", err)
		})
		return err
	}
	return nil
}

func preimageOf(key htlcdash.Key, err error) (lightning.Preimage, error) {
	if err != nil {
		return lightning.Preimage{}, err
	}
	return lightning.NewPreimage(key.Reveal()), nil
}

// withPass calls do with the credential for p and a title, and once more with
// another one if p refuses it. If free, none are bought.
func (b *Buyer) withPass(ctx context.Context, p *peer, t *title, free bool, do func(*pass) error) error {
	for again := true; ; again = false {
		v, err := b.pass(ctx, p, t, free)
		if err != nil {
			return err
		}
		err = do(v)
		if !again || !errors.Is(err, errPass) {
			return err
		}
		p.purse.drop(t.berth(), v)
	}
}

// passes carries, to [Buyer.Authorization], for which title bytes are fetched.
type passKey struct{}

// ForTitle says in a context for which title sealed bytes are fetched, where the buyer
// does not do it: it pays for them, where they cost money.
func ForTitle(ctx context.Context, id htlcdash.TitleID) context.Context {
	return context.WithValue(ctx, passKey{}, id)
}

// Authorization is the header that a request for sealed bytes at path below a
// provider's address shows, or empty: bytes count against what the viewer has
// from that provider and has not paid for. ctx is the one that the buyer handed
// to [Sealed]. It waits for nothing.
func (b *Buyer) Authorization(ctx context.Context, provider, path string) string {
	id, ok := ctx.Value(passKey{}).(htlcdash.TitleID)
	if !ok {
		return ""
	}
	b.mu.Lock()
	p := b.peers[strings.TrimSuffix(provider, "/")]
	b.mu.Unlock()
	if p == nil {
		return ""
	}
	v := p.purse.live(berth{title: id})
	if v == nil {
		return ""
	}
	return v.credential.Authorization(http.MethodGet, path, nil, time.Now())
}

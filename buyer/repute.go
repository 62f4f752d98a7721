package buyer

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/ledger"
)

// Bans end, those for proven cheats too. A cheat that comes back has to begin
// anew, can take the price of one key, once, from who buys unproved, and is then
// gone for twice as long; one that wants more of that takes a new key, which
// costs it nothing, and no ban would keep it from it. But an honest operator
// whose machine was broken into, or whose address had another owner before, is
// not lost for ever.
const (
	cheatBan  = 365 * 24 * time.Hour // doubled with each
	maxDouble = 4                    // so at most 16 years
)

// convict bans who took money for a key and gave none, at this address and at
// any that signs with its key.
// Not so the node that took the money: it may be an honest provider's, whose
// invoice the cheat passed on.
func (b *Buyer) convict(f *flight, cause error) {
	names := namesOf(f.Provider, f.Signer)
	b.market.Observe(time.Now(), marketName(f.Provider, f.Signer), market.Outcome{
		Kind: market.Cheated, Price: f.Amount, Ceiling: f.ceiling, Reason: cause.Error(),
	})
	b.mu.Lock()
	times := 0
	for _, name := range names {
		times = max(times, b.bans[name].Times)
	}
	b.mu.Unlock()
	b.ban(names, cause.Error(), time.Now().Add(cheatBan<<min(times, maxDouble)))
	b.c.Log.Error("provider cheated", "provider", f.Provider, "node", f.Payee, "lost", f.Amount, "hash", f.Hash)
}

// namesOf are the names that a provider is banned by. The key is that of a
// signature, not one that it merely shows.
func namesOf(url string, key htlcdash.ProviderID) []string {
	if key == (htlcdash.ProviderID{}) {
		return []string{url}
	}
	return []string{url, key.String()}
}

// ban keeps the provider of these names from being asked or paid until a time,
// in this run and later ones.
func (b *Buyer) ban(names []string, why string, until time.Time) {
	bans := make([]ledger.Ban, len(names))
	at := time.Now()
	b.mu.Lock()
	for i, name := range names {
		bans[i] = ledger.Ban{Provider: name, Reason: why, At: at, Until: until, Times: b.bans[name].Times + 1}
		b.bans[name] = bans[i]
	}
	for url, p := range b.peers {
		if url == names[0] || slices.Contains(names[1:], p.purse.known().Key.String()) {
			p.banish(bans[0])
		}
	}
	b.mu.Unlock()
	b.c.Log.Error("provider banned", "provider", names[0], "until", until.Round(time.Second), "why", why)
	for _, ban := range bans {
		if err := b.c.Ledger.Ban(context.WithoutCancel(b.alive), ban); err != nil {
			b.c.Log.Error("ban not booked", "provider", ban.Provider, "err", err)
		}
	}
	b.keepReputation(context.WithoutCancel(b.alive))
}

// restoreReputation reads bans and what the market knew. What makes no sense in
// it is forgotten: nobody's money hangs on it.
func (b *Buyer) restoreReputation(ctx context.Context) error {
	bans, err := b.c.Ledger.Bans(ctx)
	if err != nil {
		return err
	}
	b.bans = make(map[string]ledger.Ban, len(bans))
	for _, ban := range bans {
		b.bans[ban.Provider] = ban
	}
	kept, err := b.c.Ledger.Reputation(ctx)
	if err != nil {
		return err
	}
	records := make([]market.Record, 0, len(kept))
	for _, k := range kept {
		var r market.Record
		if err := json.Unmarshal(k.Record, &r); err != nil || r.ID != k.Provider {
			b.c.Log.Warn("reputation forgotten", "provider", k.Provider, "err", err)
			continue
		}
		records = append(records, r)
	}
	if err := b.market.Restore(time.Now(), records); err != nil {
		b.c.Log.Warn("reputation forgotten", "err", err)
	}
	return nil
}

// Remembered tells how providers stand by the books alone, as [Buyer.Stands] does in
// a run.
func Remembered(ctx context.Context, books *ledger.Ledger) (func(url string, key htlcdash.ProviderID) Standing, error) {
	b := &Buyer{c: Config{Ledger: books, Log: slog.New(slog.DiscardHandler)}, market: market.New(market.Config{}, rand.NewPCG(0, 0))}
	if err := b.restoreReputation(ctx); err != nil {
		return nil, err
	}
	return b.Stands, nil
}

// Stands tells how the provider stands that shows a key at an address, whatever it
// sells. What is known of it with a title is in [Buyer.Standing].
func (b *Buyer) Stands(url string, key htlcdash.ProviderID) Standing {
	now := time.Now()
	name := marketName(url, key)
	look, s := b.market.Look(now, name), Standing{Provider: url, Key: key}
	r, _ := b.market.Record(name)
	if s.Latency, s.Success = look.Latency, look.Success; r.Ceiling > 0 {
		s.Factor = float64(r.Price) / float64(r.Ceiling)
	}
	switch {
	case look.Standing == market.Banned:
		s.State, s.Until, s.Why = "shunned", look.Until, look.Reason
	case now.Before(r.Benched):
		s.State, s.Until = "resting", r.Benched
	default:
		s.State = string(look.Standing)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range namesOf(url, key) {
		if ban := b.bans[name]; now.Before(ban.Until) {
			s.State, s.Until, s.Why = "banned", ban.Until, ban.Reason
		}
	}
	return s
}

// keepEvery is how often reputations are written down. What a crash loses of
// them is learnt anew; bans are booked at once.
const keepEvery = time.Minute

func (b *Buyer) keepBooksOfReputation() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.keepReputation(b.alive)
		case <-b.alive.Done():
			return
		}
	}
}

// keepReputation writes down what the market knows, if it is anything.
func (b *Buyer) keepReputation(ctx context.Context) {
	known := b.market.Records()
	if len(known) == 0 {
		return
	}
	urls := make(map[string]string)
	b.mu.Lock()
	for url, p := range b.peers {
		urls[p.id()] = url
	}
	b.mu.Unlock()
	all := make([]ledger.Reputation, 0, len(known))
	for _, r := range known {
		blob, err := json.Marshal(r)
		if err != nil {
			b.c.Log.Error("reputation not kept", "provider", r.ID, "err", err)
			continue
		}
		all = append(all, ledger.Reputation{Provider: r.ID, URL: urls[r.ID], Record: blob})
	}
	if err := b.c.Ledger.Remember(ctx, all); err != nil {
		b.c.Log.Error("reputation not kept", "err", err)
	}
}

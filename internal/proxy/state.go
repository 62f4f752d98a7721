package proxy

import (
	"cmp"
	"context"
	"math"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// A TitleReport names a title in GET /api/titles. Amounts are in msat.
type TitleReport struct {
	ID       htlcdash.TitleID `json:"id"`
	Name     string           `json:"name"`
	Title    string           `json:"title"`               // for people
	By       string           `json:"publisher,omitempty"` // its key; empty for an open title
	Paid     bool             `json:"paid"`                // false: an open title, free of charge
	Duration int64            `json:"duration_ms"`
	MPD      string           `json:"mpd"`
	Cheapest lightning.Msat   `json:"cheapest_msat"` // the whole title on its lowest rungs
	Dearest  lightning.Msat   `json:"dearest_msat"`
}

// A State is what the page shows: GET /api/state?title=, and the data of each
// "state" event of GET /api/events?title=. Without a title it has the wallet
// only.
type State struct {
	Wallet *WalletReport `json:"wallet,omitempty"`
	Title  *TitleState   `json:"title,omitempty"`
}

// A WalletReport is what the viewer's node can spend.
type WalletReport struct {
	Balance lightning.Msat `json:"balance_msat"`
	Error   string         `json:"error,omitempty"`
}

// A TitleState is one title now. "This run" counts from the start of the proxy.
type TitleState struct {
	TitleReport

	Budget   *lightning.Msat `json:"budget_msat"` // of this film, ever; null: none
	Left     *lightning.Msat `json:"left_msat"`   // what may still be spent, the limit for a day included; null: no limit
	Spent    lightning.Msat  `json:"spent_msat"`  // ever, fees included
	Reserved lightning.Msat  `json:"reserved_msat"`
	Fees     lightning.Msat  `json:"fees_msat"`
	Lost     lightning.Msat  `json:"lost_msat"` // of it: paid, and no key came

	// What Spent is besides Fees: for keys, for sealed bytes, and for anonymous
	// credentials.
	Keys        lightning.Msat `json:"keys_msat"`
	Carriage    lightning.Msat `json:"carriage_msat"`
	Credentials lightning.Msat `json:"credentials_msat"`

	// What the title's sealed bytes cost at the cheapest who has them now, on its lowest
	// rungs and on its best, if none come for nothing.
	BytesCheapest lightning.Msat `json:"bytes_cheapest_msat"`
	BytesDearest  lightning.Msat `json:"bytes_dearest_msat"`

	InFlight int            `json:"in_flight"`
	Stopped  bool           `json:"stopped"`
	Scheme   string         `json:"scheme"`
	Risk     lightning.Msat `json:"risk_msat"`

	Bought           int            `json:"bought"`        // segments whose keys were bought, this run
	Unplayed         lightning.Msat `json:"unplayed_msat"` // this run: bought, and did not reach a player or was replaced
	UnplayedSegments int            `json:"unplayed"`
	Ahead            lightning.Msat `json:"ahead_msat"` // of it: the player may yet ask, since it was bought ahead or is the rest of a group

	Cap      int64          `json:"cap"`             // bit/s that the budget carries to the end, whatever a player does; 0: no limit
	Enough   bool           `json:"enough"`          // the money left carries the cheapest way to the end
	ToEnd    lightning.Msat `json:"to_end_msat"`     // what the cheapest way to the end still costs
	Start    []string       `json:"start"`           // Representations that our page starts with
	Agent    *AgentState    `json:"agent,omitempty"` // of a sealed title
	Rungs    []RungState    `json:"rungs"`
	Now      []PieceState   `json:"now"` // what was asked for last
	Position int64          `json:"position_ms"`
	Playing  bool           `json:"playing"`   // a player asked lately
	Buffer   int64          `json:"buffer_ms"` // -1: the player does not say
	Rate     int64          `json:"rate"`      // bit/s, as the player measured; 0: it does not say
	Network  int64          `json:"network"`   // bit/s, as the proxy measured; 0: not known
	Quick    bool           `json:"quick"`     // measured, and much faster than the best rung
	Given    int64          `json:"given_bytes"`
	Trouble  *Trouble       `json:"trouble,omitempty"`

	Providers []buyer.Standing `json:"providers,omitempty"` // who sells it, and how they do
}

// A RungState is one Representation.
type RungState struct {
	ID        string         `json:"id"`
	Kind      string         `json:"kind"`
	Bandwidth int64          `json:"bandwidth"` // bit/s
	Width     int            `json:"width,omitempty"`
	Height    int            `json:"height,omitempty"`
	Count     int            `json:"count"`      // segments
	Total     lightning.Msat `json:"total_msat"` // the whole film
	Allowed   bool           `json:"allowed"`    // not above the cap
}

// A PieceState is a segment that a player asked for.
type PieceState struct {
	Kind  string         `json:"kind"`
	Rep   string         `json:"rep"`
	Index int            `json:"index"`
	Count int            `json:"count"`
	Price lightning.Msat `json:"price_msat"` // its share of what the key costs
}

// A PurchaseReport is a purchase and what it opened, as far as that is known.
type PurchaseReport struct {
	buyer.Purchase

	First int `json:"first"` // index of the first segment that the key opens
	Opens int `json:"opens"` // how many
}

func (f *film) purchase(b buyer.Purchase) PurchaseReport {
	r := PurchaseReport{b, b.Index, 1}
	f.mu.Lock()
	defer f.mu.Unlock()
	if rep := f.reps[b.Representation]; rep != nil && b.Index < len(rep.Segments) {
		from, to := f.opens(piece{rep, b.Index})
		r.First, r.Opens = from, to-from
	}
	return r
}

func (f *film) report() TitleReport {
	r := TitleReport{ID: f.id, Name: f.name, Title: cmp.Or(f.manifest.Title(), f.name), Paid: f.paid, Duration: f.manifest.Duration().Milliseconds(), MPD: "/t/" + f.id.String() + "/manifest.mpd"}
	if !f.paid {
		return r
	}
	if publisher, ok := f.manifest.Publisher(); ok {
		r.By = publisher.String()
	}
	r.Cheapest, r.Dearest = f.manifest.PriceRange()
	return r
}

// bytesCost is what the sealed bytes of the lowest and of the best rungs cost, where a
// MiB costs so much.
func (f *film) bytesCost(perMiB lightning.Msat) (lowest, best lightning.Msat) {
	f.mu.Lock()
	few, many := f.ladder.Title.Bytes()
	f.mu.Unlock()
	cost := func(n int64) lightning.Msat {
		return lightning.Msat(math.Ceil(float64(perMiB) * float64(n) / (1 << 20)))
	}
	return cost(few), cost(many)
}

func (f *film) state() *TitleState {
	s := &TitleState{TitleReport: f.report(), Enough: true}
	money := f.budget()
	if f.paid {
		a := f.proxy.buyer.Account(f.id)
		s.Spent, s.Reserved, s.Fees, s.Lost = a.Spent, a.Reserved, a.Fees, a.Lost
		s.Carriage, s.Credentials = a.Carriage, a.Credentials
		s.BytesCheapest, s.BytesDearest = f.bytesCost(a.BytePrice)
		s.Keys = a.Spent - a.Fees - a.Carriage - a.Credentials
		s.Providers = f.proxy.buyer.Standing(f.id)
		s.InFlight, s.Stopped, s.Scheme, s.Risk = a.InFlight, a.Stopped, f.proxy.scheme, a.Risk
		if a.Budget != buyer.NoLimit {
			s.Budget = &a.Budget
		}
		if left, limited := a.Left(); limited {
			s.Left = &left
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Bought = f.tally.count
	s.Unplayed, s.UnplayedSegments = f.tally.unplayed()
	s.Ahead = f.aheadMoney() + f.restOfGroups()
	at := f.position()
	s.Position = at.Milliseconds()
	s.Playing = !f.heard.IsZero() && time.Since(f.heard) < idle
	s.Buffer = -1
	if f.said.BufferKnown {
		s.Buffer = f.said.Buffer.Milliseconds()
	}
	s.Rate, s.Given = f.said.Throughput, f.given
	s.Network = f.proxy.gauge.rate()
	s.Quick = s.Network > 0 && f.quick()
	if f.paid {
		f.advise(s, money)
	}
	if s.Start == nil {
		for _, rep := range f.stockStart(money) {
			s.Start = append(s.Start, rep.ID)
		}
	}
	s.Rungs = f.rungs()
	for _, kind := range []string{"video", "audio", "text"} {
		if p, ok := f.now[kind]; ok {
			s.Now = append(s.Now, PieceState{kind, p.rep.ID, p.index, len(p.rep.Segments), f.asking(p)})
		}
	}
	if f.trouble.Kind != "" {
		t := f.trouble
		s.Trouble = &t
	}
	return s
}

// rungs are the Representations of the first Period that may play. f.mu is held.
func (f *film) rungs() (rungs []RungState) {
	shown := [][]*dash.Representation{f.video, f.audio}
	if f.soundOnly() {
		shown = shown[1:]
	}
	for _, reps := range shown {
		for _, rep := range reps {
			r := RungState{ID: rep.ID, Kind: rep.ContentType, Bandwidth: rep.Bandwidth, Width: rep.Width, Height: rep.Height, Count: len(rep.Segments), Allowed: true}
			if rep.Pay != nil {
				r.Total = rep.Pay.Total
			}
			if f.top > 0 && rep.ContentType == f.main()[0].ContentType {
				r.Allowed = rep.Bandwidth <= f.top
			}
			rungs = append(rungs, r)
		}
	}
	return rungs
}

// A purse keeps the wallet's balance, which costs a call of the node, for as
// long as a person does not notice.
type purse struct {
	report WalletReport
	at     time.Time
	asking bool
}

const balanceAge = 2 * time.Second

// walletReport returns the last balance, and asks for a new one if it is old.
func (p *Proxy) walletReport() *WalletReport {
	if p.wallet == nil {
		return nil
	}
	p.mu.Lock()
	r, ask := p.balance.report, !p.balance.asking && time.Since(p.balance.at) >= balanceAge
	known := !p.balance.at.IsZero()
	p.balance.asking = p.balance.asking || ask
	p.mu.Unlock()
	if ask {
		p.run(p.askBalance)
	}
	if !known {
		return nil
	}
	return &r
}

func (p *Proxy) askBalance() {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	b, err := p.wallet.Balance(ctx)
	p.mu.Lock()
	p.balance.at, p.balance.asking = time.Now(), false
	changed := p.balance.report.Balance != b.Outbound || (err != nil) != (p.balance.report.Error != "")
	if err != nil {
		p.balance.report.Error = explain(err).Text
		p.log.Warn("balance", "error", err)
	} else {
		p.balance.report = WalletReport{Balance: b.Outbound}
	}
	p.mu.Unlock()
	if changed {
		p.changed()
	}
}

package market

import (
	"math"
	"slices"
	"time"

	"htlcdash/lightning"
)

// asks is the price that a candidate is expected to ask.
func asks(e *entry, c Candidate, need Need) (price float64, known bool) {
	if c.Quoted {
		return float64(c.Price), true
	}
	price, known = float64(c.Price), c.Price > 0
	if e != nil && e.Price > 0 {
		price, known = max(price, e.share()*scale(need.Ceiling, e.Ceiling)), true
	}
	if need.Ceiling > 0 {
		price = min(price, float64(need.Ceiling))
	}
	return price, known
}

// scale is the ceiling that a share is of: 1 msat where none was known, now or
// then.
func scale(now, then lightning.Msat) float64 {
	if then == 0 {
		return 1
	}
	if now == 0 {
		return float64(then)
	}
	return float64(now)
}

// share is its last price, as a share of the ceiling.
func (r *Record) share() float64 { return float64(r.Price) / scale(r.Ceiling, r.Ceiling) }

// usual is the price that a provider is known for.
func (e *entry) usual(need Need) float64 {
	if e == nil || e.Usual == 0 {
		return math.Inf(1)
	}
	return e.Usual * scale(need.Ceiling, e.Ceiling)
}

// price learns from a price. The usual price falls at once and rises slowly: it
// is what lured us.
func (m *Market) price(now time.Time, e *entry, o Outcome) {
	if o.Price <= 0 || o.Ceiling < 0 || o.Kind == Gouged {
		return
	}
	before := e.usual(Need{Ceiling: o.Ceiling})
	past := now.Sub(e.Priced)
	e.Price, e.Ceiling, e.Priced = o.Price, o.Ceiling, now
	share := e.share()
	if e.Usual == 0 || share < e.Usual {
		e.Usual = share
	} else {
		e.Usual += (share - e.Usual) * (1 - fade(past, settling))
	}
	if e.ID == m.served && float64(o.Price) > tolerance*before {
		m.hurry(now)
	}
}

const (
	// askEvery is how often prices are learnt, and doubles while that changes
	// nothing, up to askSeldom.
	askEvery, askSeldom = time.Minute, 16 * time.Minute
	// askMost is how many are asked at once.
	askMost = 3
)

// AskAgain says which candidates to ask for a price now, though they are not
// needed, and when to call it again. Their answers are observed as [Quoted].
func (m *Market) AskAgain(now time.Time, cands []Candidate) (who []int, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.ask) {
		return nil, m.ask
	}
	s := m.survey(now, cands, Need{})
	for _, o := range slices.Concat(s.trusted, s.fresh[:min(len(s.fresh), 1)]) {
		if len(who) < askMost && (o.entry == nil || now.Sub(o.Priced) >= askEvery) {
			who = append(who, o.Index)
		}
	}
	m.ask = now.Add(m.interval)
	m.interval = min(2*m.interval, askSeldom)
	return who, m.ask
}

// hurry makes prices be asked at once: who serves us is no longer sure.
func (m *Market) hurry(now time.Time) { m.ask, m.interval = now, askEvery }

// typical is the median of the prices that are known, the lower of two.
func typical(offers []*offer) (price float64, ok bool) {
	var prices []float64
	for _, o := range offers {
		if o.priced {
			prices = append(prices, o.price)
		}
	}
	if len(prices) == 0 {
		return 0, false
	}
	slices.Sort(prices)
	return prices[(len(prices)-1)/2], true
}

func highest(offers []*offer, ceiling float64) (price float64) {
	for _, o := range offers {
		if o.priced {
			price = max(price, o.price)
		}
	}
	if price == 0 {
		return ceiling
	}
	return price
}

// fair splits offers by a price.
func fair(offers []*offer, most float64) (kept, dear []*offer) {
	for _, o := range offers {
		if o.priced && o.price > most {
			dear = append(dear, o)
		} else {
			kept = append(kept, o)
		}
	}
	return kept, dear
}

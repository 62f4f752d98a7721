package seller

import (
	"cmp"
	"context"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/source"
)

// A Report is what the operator's page shows: GET /api/provider, and the data
// of each "state" event of GET /api/events. Amounts are in msat, times are
// RFC 3339 in UTC.
type Report struct {
	Node    NodeReport `json:"node"`
	Started time.Time  `json:"started"`
	Now     time.Time  `json:"now"`

	Earned      lightning.Msat `json:"earned_msat"`       // ever
	EarnedToday lightning.Msat `json:"earned_today_msat"` // since midnight, local time
	Sales       int64          `json:"sales"`             // of keys, settled, ever
	SalesToday  int64          `json:"sales_today"`
	OpenOffers  int            `json:"open_offers"` // can still be paid

	// Of what was earned: for carrying sealed bytes.
	Carriage      lightning.Msat `json:"carriage_msat"`
	CarriageToday lightning.Msat `json:"carriage_today_msat"`
	BytePrice     lightning.Msat `json:"byte_price_msat"` // of a MiB; 0: they are free

	// What keys cost upstream, routes included; and, of the last day, keys that
	// nobody has bought here since.
	Upstream      lightning.Msat `json:"upstream_msat"`
	UpstreamToday lightning.Msat `json:"upstream_today_msat"`
	AtRisk        lightning.Msat `json:"at_risk_msat"`

	Cache *CacheReport `json:"cache,omitempty"` // of sealed bytes from elsewhere; nil: there is none

	BytesServed int64 `json:"bytes_served"` // bodies to viewers, since Started
	Requests    int64 `json:"requests"`     // of viewers, since Started

	Titles []TitleReport `json:"titles"`
	Recent []SaleReport  `json:"recent"` // newest first, at most 50
	Peers  []PeerReport  `json:"peers"`  // by capacity, largest first
}

// A CacheReport tells what keeping sealed bytes that came from elsewhere was worth,
// since Started.
type CacheReport struct {
	Hits   int64          `json:"hits"`   // blobs that were asked for and were here
	Misses int64          `json:"misses"` // and that were not
	Saved  lightning.Msat `json:"saved_msat"`
	Spent  lightning.Msat `json:"spent_msat"`  // for bytes
	Profit lightning.Msat `json:"profit_msat"` // saved, less what was got ahead and nobody wanted
	Held   int64          `json:"held_bytes"`
}

// A NodeReport tells of the provider's Lightning node. Error is empty while it
// answers.
type NodeReport struct {
	ID    string `json:"id"`
	Alias string `json:"alias"`
	Error string `json:"error,omitempty"`
}

// A TitleReport tells of one title.
type TitleReport struct {
	Name            string                 `json:"name"`
	Title           string                 `json:"title"` // for people; empty if the MPD has none
	ID              htlcdash.TitleID       `json:"id"`
	Publisher       htlcdash.PublisherID   `json:"publisher"`
	MPD             string                 `json:"mpd"` // path on the public listener
	Duration        int64                  `json:"duration_ms"`
	Prepaid         bool                   `json:"prepaid"` // sold to foreign clients too
	Missing         int                    `json:"missing"` // segments without key or sealed bytes here; of a resold title: without key
	Resold          bool                   `json:"resold"`  // others publish it
	Upstream        lightning.Msat         `json:"upstream_msat"`
	UpstreamToday   lightning.Msat         `json:"upstream_today_msat"`
	Earned          lightning.Msat         `json:"earned_msat"`   // by keys
	Carriage        lightning.Msat         `json:"carriage_msat"` // earned by its sealed bytes
	EarnedToday     lightning.Msat         `json:"earned_today_msat"`
	Sales           int64                  `json:"sales"`
	Representations []RepresentationReport `json:"representations"`
}

// A RepresentationReport tells of one rung.
type RepresentationReport struct {
	ID          string         `json:"id"`
	ContentType string         `json:"content_type"` // "video", "audio", "text", "image"
	Bandwidth   int64          `json:"bandwidth"`    // bit/s
	Width       int            `json:"width,omitempty"`
	Height      int            `json:"height,omitempty"`
	Price       lightning.Msat `json:"price_msat"` // of all its keys here
	Earned      lightning.Msat `json:"earned_msat"`
	Sales       int64          `json:"sales"`
	Sold        []uint32       `json:"sold"` // sales by the index of the segment that was asked for
}

// A SaleReport tells of one settled sale.
type SaleReport struct {
	At             time.Time      `json:"at"`
	Title          string         `json:"title"` // its name; its id if it is no longer here
	Representation string         `json:"representation"`
	Segment        int            `json:"segment"`
	Scheme         string         `json:"scheme"` // "salted", "prepaid", "keyed" or "carriage"
	Amount         lightning.Msat `json:"amount_msat"`
}

// A PeerReport tells of one channel of the provider's node.
type PeerReport struct {
	Node     lightning.NodeID       `json:"node"`
	Channel  lightning.ChannelPoint `json:"channel"`
	Capacity lightning.Msat         `json:"capacity_msat"`
	Local    lightning.Msat         `json:"local_msat"`  // ours
	Remote   lightning.Msat         `json:"remote_msat"` // can still be received
	InFlight int                    `json:"in_flight"`   // HTLCs
	Active   bool                   `json:"active"`
}

// peers is the node's channels as they were a moment ago.
type peers struct {
	at   time.Time
	list []PeerReport
	err  string
}

// Report tells the operator how things stand.
func (s *Seller) Report(ctx context.Context) (Report, error) {
	now := time.Now()
	total, err := s.earned(ctx, time.Time{})
	if err != nil {
		return Report{}, err
	}
	year, month, day := now.Date()
	today, err := s.earned(ctx, time.Date(year, month, day, 0, 0, 0, 0, now.Location()))
	if err != nil {
		return Report{}, err
	}
	peers, nodeErr := s.channels(ctx)
	shelf := s.shelf.Load()
	r := Report{
		Node:          NodeReport{ID: s.config.Node.String(), Alias: s.config.Alias, Error: nodeErr},
		Started:       s.started.UTC(),
		Now:           now.UTC(),
		Earned:        total.all.Amount,
		Sales:         total.all.Count - total.carriage.Count,
		EarnedToday:   today.all.Amount,
		SalesToday:    today.all.Count - today.carriage.Count,
		Carriage:      total.carriage.Amount,
		CarriageToday: today.carriage.Amount,
		BytePrice:     s.config.BytePrice,
		OpenOffers:    s.register.count(),
		BytesServed:   s.bytes.Load(),
		Requests:      s.requests.Load(),
		Titles:        []TitleReport{},
		Recent:        s.recent(shelf),
		Peers:         peers,
	}
	if library, ok := s.config.Sealed.(interface{ Stats() source.Stats }); ok {
		c := library.Stats()
		r.Cache = &CacheReport{Hits: c.Hits, Misses: c.Misses, Saved: c.Saved, Spent: c.Spent, Profit: c.Profit(), Held: c.Held}
	}
	if s.config.Shelf != nil {
		r.AtRisk = s.config.Shelf.AtRisk()
	}
	for _, spent := range total.spent {
		r.Upstream += spent
	}
	for _, spent := range today.spent {
		r.UpstreamToday += spent
	}
	for _, name := range shelf.names() {
		r.Titles = append(r.Titles, s.titleReport(shelf.byName[name], total, today))
	}
	return r, nil
}

// earnings is what was earned: in all, and by title and Representation; and what
// was spent for that upstream, by title.
type earnings struct {
	all      ledger.Earning
	carriage ledger.Earning // of all
	by       map[soldKey]ledger.Earning
	spent    map[htlcdash.TitleID]lightning.Msat
}

func (s *Seller) earned(ctx context.Context, since time.Time) (earnings, error) {
	list, err := s.config.Books.Earned(ctx, since)
	if err != nil {
		return earnings{}, err
	}
	e := earnings{by: map[soldKey]ledger.Earning{}}
	if e.spent, err = s.config.Books.SpentByTitle(ctx, since); err != nil {
		return earnings{}, err
	}
	for _, x := range list {
		e.all.Amount += x.Amount
		e.all.Count += x.Count
		if x.Representation == ledger.Carriage {
			e.carriage.Amount += x.Amount
			e.carriage.Count += x.Count
		}
		e.by[soldKey{x.Title, x.Representation}] = x
	}
	return e, nil
}

func (s *Seller) titleReport(t *sealedTitle, total, today earnings) TitleReport {
	r := TitleReport{
		Title:           t.Manifest.Title(),
		Name:            t.name,
		ID:              t.ID,
		Publisher:       t.Publisher,
		MPD:             mpdPath(t.name),
		Duration:        t.Manifest.Duration().Milliseconds(),
		Prepaid:         t.prepaid,
		Missing:         t.lacks(s.config.Shelf),
		Resold:          t.resold,
		Carriage:        total.by[soldKey{t.ID, ledger.Carriage}].Amount,
		Upstream:        total.spent[t.ID],
		UpstreamToday:   today.spent[t.ID],
		Representations: []RepresentationReport{},
	}
	for _, rep := range t.Manifest.Representations() {
		key := soldKey{t.ID, rep.ID}
		rr := RepresentationReport{
			ID:          rep.ID,
			ContentType: rep.ContentType,
			Bandwidth:   rep.Bandwidth,
			Width:       rep.Width,
			Height:      rep.Height,
			Earned:      total.by[key].Amount,
			Sales:       total.by[key].Count,
			Sold:        s.books.soldOf(key, len(t.lists[rep.ID])),
		}
		for _, seg := range t.lists[rep.ID] {
			if first, _ := seg.Opens(); seg.Index == first {
				rr.Price += s.price(seg)
			}
		}
		r.Earned += rr.Earned
		r.EarnedToday += today.by[key].Amount
		r.Sales += rr.Sales
		r.Representations = append(r.Representations, rr)
	}
	return r
}

func (s *Seller) recent(shelf *shelf) []SaleReport {
	list := []SaleReport{}
	for _, sale := range s.books.newest() {
		name := sale.Title.String()
		if t := shelf.byID[sale.Title]; t != nil {
			name = t.name
		} else if file, ok := s.fileName(sale.Title); ok {
			name = file
		}
		list = append(list, SaleReport{
			At:             sale.Settled.UTC(),
			Title:          name,
			Representation: sale.Representation,
			Segment:        sale.Index,
			Scheme:         sale.Scheme,
			Amount:         sale.Received,
		})
	}
	return list
}

// channels asks the node at most every two seconds, however many look.
func (s *Seller) channels(ctx context.Context) (list []PeerReport, nodeErr string) {
	s.mu.Lock()
	known, failed := s.peers, s.nodeErr
	if time.Since(s.nodeTime) > time.Minute {
		failed = ""
	}
	fresh := s.config.Channels == nil || time.Since(known.at) < 2*time.Second
	if !fresh {
		s.peers.at = time.Now() // this call asks, the others take what is known
	}
	s.mu.Unlock()
	if !fresh {
		known = askChannels(ctx, s.config.Channels)
		s.mu.Lock()
		s.peers = known
		s.mu.Unlock()
	}
	if known.list == nil {
		known.list = []PeerReport{}
	}
	return known.list, cmp.Or(known.err, failed)
}

func askChannels(ctx context.Context, node ChannelLister) peers {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	channels, err := node.Channels(ctx)
	if err != nil {
		return peers{at: time.Now(), err: err.Error()}
	}
	p := peers{at: time.Now()}
	for _, c := range channels {
		p.list = append(p.list, PeerReport{
			Node:     c.Peer,
			Channel:  c.Point,
			Capacity: c.Capacity,
			Local:    c.Local,
			Remote:   c.Remote,
			InFlight: c.InFlight,
			Active:   c.Active,
		})
	}
	slices.SortStableFunc(p.list, func(a, b PeerReport) int { return cmp.Compare(b.Capacity, a.Capacity) })
	return p
}

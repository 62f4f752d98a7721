package seller

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// maxRecent is how many sales the operator's page lists, maxBatch how many
// receipts are booked at once.
const (
	maxRecent = 50
	maxBatch  = 256
)

// Waits between two tries to hear from the node, and how long offers that
// nobody paid stay in the books.
const (
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
	forgetAfter = 24 * time.Hour
)

// books follows the receipts of payees and keeps in memory what the operator's
// page shows of them.
type books struct {
	ledger   *ledger.Ledger
	register *register
	log      *slog.Logger
	worth    func(ledger.Sale) int64                     // sealed bytes that a sale pays for
	noted    func(lightning.Receipt) (ledger.Sale, bool) // what the note of a receipt says was sold
	told     func(ledger.Sale)                           // hears of each sale

	mu       sync.Mutex
	sold     map[soldKey][]uint32
	recent   []ledger.Sale // newest last
	watchers map[chan struct{}]struct{}
}

type soldKey struct {
	title          htlcdash.TitleID
	representation string
}

func newBooks(l *ledger.Ledger, r *register, log *slog.Logger) *books {
	return &books{ledger: l, register: r, log: log, sold: map[soldKey][]uint32{}, watchers: map[chan struct{}]struct{}{}}
}

// load counts the sales that are in the ledger. It must be done before follow.
func (b *books) load(ctx context.Context) error {
	for c, err := range b.ledger.Sold(ctx) {
		if err != nil {
			return err
		}
		b.count(soldKey{c.Title, c.Representation}, c.Index, c.Count)
	}
	for sale, err := range b.ledger.Sales(ctx, ledger.Filter{Newest: true, Limit: maxRecent}) {
		if err != nil {
			return err
		}
		b.recent = append(b.recent, sale)
	}
	slices.Reverse(b.recent)
	return nil
}

// follow books the receipts of a payee, beginning after the last one that is
// in the ledger, until ctx is done. It survives a node that goes away.
func (b *books) follow(ctx context.Context, from ledger.Source, payee lightning.Payee) {
	retry := firstRetry
	for {
		start := time.Now()
		err := b.receipts(ctx, from, payee)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > lastRetry {
			retry = firstRetry
		}
		b.log.Warn("receipts of the node ended, asking again", "err", err, "after", retry)
		select {
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		case <-ctx.Done():
			return
		}
	}
}

// receipts books what comes while the last batch is being written together:
// one fsync for all of it. An error of either side ends both.
func (b *books) receipts(ctx context.Context, from ledger.Source, payee lightning.Payee) error {
	last, err := b.ledger.LastReceipt(ctx, from)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan lightning.Receipt, maxBatch)
	group.Go(func() error {
		defer close(queue)
		return payee.Receipts(ctx, last, func(r lightning.Receipt) error {
			select {
			case queue <- r:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	group.Go(func() error {
		for r := range queue {
			// What is in hand is booked even while the program ends.
			if err := b.settle(context.WithoutCancel(ctx), from, drain(queue, r)); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// drain returns first and what else is in queue.
func drain(queue <-chan lightning.Receipt, first lightning.Receipt) []lightning.Receipt {
	batch := []lightning.Receipt{first}
	for len(batch) < maxBatch {
		select {
		case r, ok := <-queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

func (b *books) settle(ctx context.Context, from ledger.Source, batch []lightning.Receipt) error {
	if err := b.ledger.Offered(ctx, b.unbooked(batch)); err != nil {
		return err
	}
	if err := b.ledger.Settle(ctx, from, batch...); err != nil {
		return err
	}
	for _, r := range batch {
		sale, owner, err := b.saleOf(ctx, r.Hash)
		if errors.Is(err, htlcdash.ErrNotFound) {
			continue // the node sells other things too
		}
		if err != nil {
			return err
		}
		sale.Received, sale.Settled = r.Amount, r.At
		if owner != nil {
			if sale.Scheme == exchange.SchemeCarriage {
				owner.credit(sale.Hash)
				if sale.Received >= lightning.Sat { // bytes can be paid for by the msat
					owner.prefer()
				}
			} else {
				owner.paid(b.worth(sale))
			}
		}
		b.told(sale)
		b.note(sale)
		b.log.Debug("sold", "title", sale.Title, "representation", sale.Representation, "segment", sale.Index,
			"scheme", sale.Scheme, "amount", sale.Received)
	}
	return nil
}

// unbooked returns what of batch may not be in the ledger: what was sold to
// foreign clients is booked when it is paid, and not before, and a note tells
// what was sold however long ago.
func (b *books) unbooked(batch []lightning.Receipt) (sales []ledger.Sale) {
	for _, r := range batch {
		if sale, _, ok := b.register.sale(r.Hash); ok && sale.Scheme == exchange.SchemePrepaid {
			sales = append(sales, sale)
		} else if sale, ok := b.noted(r); ok {
			sales = append(sales, sale)
		}
	}
	return sales
}

// saleOf closes the offer that was paid, and returns it with the guest it was
// made to: as a rule it is still in memory.
func (b *books) saleOf(ctx context.Context, h lightning.Hash) (ledger.Sale, *guest, error) {
	sale, owner, ok := b.register.sale(h)
	b.register.close(h)
	if ok {
		return sale, owner, nil
	}
	sale, err := b.ledger.Sale(ctx, h)
	return sale, nil, err
}

// late books a sale whose receipt came when nobody knew what it was for.
func (b *books) late(ctx context.Context, sale ledger.Sale) error {
	err := b.ledger.Offered(ctx, []ledger.Sale{sale})
	if err == nil {
		err = b.ledger.Settle(ctx, ledger.FromNode, lightning.Receipt{Hash: sale.Hash, Amount: sale.Received, At: sale.Settled})
	}
	if err == nil {
		b.note(sale)
	}
	return err
}

// note counts a settled sale.
func (b *books) note(s ledger.Sale) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(soldKey{s.Title, s.Representation}, s.Index, 1)
	b.recent = append(b.recent, s)
	if len(b.recent) > 2*maxRecent {
		b.recent = append(b.recent[:0], b.recent[len(b.recent)-maxRecent:]...)
	}
	for w := range b.watchers {
		select {
		case w <- struct{}{}:
		default: // it has not yet looked since the last one
		}
	}
}

// count adds n sales of a segment. It needs b.mu, but in load.
func (b *books) count(key soldKey, index int, n uint32) {
	if index < 0 || index >= htlcdash.MaxSegments {
		return
	}
	if more := index + 1 - len(b.sold[key]); more > 0 {
		b.sold[key] = append(b.sold[key], make([]uint32, more)...)
	}
	b.sold[key][index] += n
}

// watch returns a channel that gets a value after sales were settled, until
// stop is called.
func (b *books) watch() (changed <-chan struct{}, stop func()) {
	w := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = struct{}{}
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
	}
}

// soldOf returns how often each of n segments was sold.
func (b *books) soldOf(key soldKey, n int) []uint32 {
	sold := make([]uint32, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	copy(sold, b.sold[key])
	return sold
}

// newest returns the last sales, newest first.
func (b *books) newest() []ledger.Sale {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sales []ledger.Sale
	for i := len(b.recent) - 1; i >= max(0, len(b.recent)-maxRecent); i-- {
		sales = append(sales, b.recent[i])
	}
	return sales
}

// forget removes old offers that nobody paid, now and every hour.
func (b *books) forget(ctx context.Context, life time.Duration) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		before := time.Now().Add(-forgetAfter - life - exchange.Grace)
		if err := b.ledger.Forget(ctx, before); err != nil && ctx.Err() == nil {
			b.log.Warn("forget old offers", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

package buyer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/fraud"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// Bounds of a window of chunks: what is paid for at a time and not yet
// verified.
const (
	MaxWindow      = exchange.MaxBatch // chunks
	maxWindowBytes = 32 << 20
	maxFruitless   = 3 // windows in a row of which no payment arrives
)

// A FileStore is where a file is put together; *os.File is one. Bytes that were
// written are durable when Sync returns.
type FileStore interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// A FileOrder says which file to buy from whom, and on what terms.
type FileOrder struct {
	File     htlcdash.Blob
	Provider *Provider
	MaxPrice lightning.Msat // that a MiB may cost; 0: nothing is bought
	Window   int            // most chunks that are paid for at a time; 0 or more than MaxWindow: MaxWindow
	Exposure lightning.Msat // most that they may cost together, but for a single one; 0: only Window bounds it
	To       FileStore      // what it holds of the file already is not bought
	Progress func(FileProgress)
}

// A FileProgress says how far the purchase of a file is.
type FileProgress struct {
	Chunks, Have int
	Bytes        int64          // of those we have
	Window       int            // chunks that are being paid for now
	Price        lightning.Msat // of a MiB
	Spent        lightning.Msat // ever for this file
}

// fileTitle is the id under which a file's money is accounted for: that of its
// root.
func fileTitle(f htlcdash.Blob) htlcdash.TitleID { return htlcdash.TitleID(f.Root) }

// File buys a file of which only the root is known, chunk by chunk, under the
// scheme "keyed". It pays for one chunk first, for twice as many each time that
// all were good, and for none after one that was not: then the provider is
// banned, what shows the cheat goes to [Config.Complain], and the error matches
// [ErrCheated]. What can be lost to a provider is one window.
//
// The account of the file is that of the title whose id is the root. An error
// that matches lightning.ErrInFlight means that the outcome of a payment is not
// known: called again, File waits for it before it buys anything, also after a
// crash, and never pays twice for a chunk that came or may yet come. Bytes in
// o.To behind an error are whole chunks, or nothing that counts.
func (b *Buyer) File(ctx context.Context, o FileOrder) error {
	leave, err := b.enter(o.File)
	if err != nil {
		return err
	}
	defer leave()
	j, err := b.job(ctx, o)
	if err == nil {
		err = j.run(ctx)
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", o.File.Root, err)
	}
	return nil
}

// enter keeps two from putting one file together.
func (b *Buyer) enter(f htlcdash.Blob) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if b.files[f.Root] {
		return nil, fmt.Errorf("file %s is being bought already: %w", f.Root, ErrStopped)
	}
	b.files[f.Root] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.files, f.Root)
	}, nil
}

// A fileJob is one purchase of a file.
type fileJob struct {
	b       *Buyer
	o       FileOrder
	t       *title
	peer    *peer
	signer  htlcdash.ProviderID
	price   lightning.Msat // of a MiB
	cut     exchange.Cut
	layer   []htlcdash.Root
	missing []int // chunks
	have    int64 // bytes
	window  int
}

// job learns what the provider offers, and checks it as far as it can be.
func (b *Buyer) job(ctx context.Context, o FileOrder) (*fileJob, error) {
	if o.Window <= 0 || o.Window > MaxWindow {
		o.Window = MaxWindow
	}
	if o.Progress == nil {
		o.Progress = func(FileProgress) {}
	}
	id := fileTitle(o.File)
	if err := b.openAccount(ctx, id); err != nil {
		return nil, err
	}
	b.mu.Lock()
	j := &fileJob{b: b, o: o, t: &title{id: id}, peer: b.peer(o.Provider), window: 1}
	b.mu.Unlock()
	if err := j.peer.trusted(); err != nil {
		return nil, err
	}
	info, err := b.info(ctx, j.peer)
	if err != nil {
		return nil, err
	}
	f, err := o.Provider.file(ctx, o.File)
	if err != nil {
		return nil, err
	}
	if f.Price > o.MaxPrice {
		return nil, fmt.Errorf("%w: %v for a MiB, at most %v: %w", ErrPrice, f.Price, o.MaxPrice, ErrTerms)
	}
	j.signer, j.price, j.cut = info.Key, f.Price, f.Cut()
	j.layer, err = o.Provider.layer(ctx, j.cut)
	return j, err
}

func (j *fileJob) run(ctx context.Context) error {
	if err := j.resume(ctx); err != nil {
		return err
	}
	if err := j.look(); err != nil {
		return err
	}
	fruitless := 0
	var ahead *fetching
	for len(j.missing) > 0 {
		j.tell()
		if ahead == nil {
			ahead = j.fetch(ctx, j.plan(0, j.window))
		}
		offers, err := ahead.wait()
		if err != nil {
			return err
		}
		// The next window is fetched while this one is paid for.
		next := j.fetch(ctx, j.plan(len(offers), j.after(len(offers))))
		good, err := j.buy(ctx, offers)
		if err != nil || good < len(offers) {
			next.drop()
			next = nil
		}
		if err != nil && (good == 0 && fruitless+1 >= maxFruitless || !errors.Is(err, lightning.ErrFailed)) {
			return err
		}
		fruitless++
		if good > 0 {
			fruitless = 0
		}
		j.window = max(1, j.window/2)
		if good == len(offers) {
			j.window = j.after(good)
		}
		ahead = next
	}
	j.tell()
	return nil
}

// after is the window that follows one of n chunks that were all good: as many
// as came, not as were asked for, or one who sends little would be trusted with
// much.
func (j *fileJob) after(n int) int { return min(2*n, j.o.Window) }

func (j *fileJob) tell() {
	j.o.Progress(FileProgress{
		Chunks: j.cut.Chunks(), Have: j.cut.Chunks() - len(j.missing), Bytes: j.have,
		Window: min(j.window, len(j.missing)), Price: j.price, Spent: j.b.till.account(j.t.id).Spent,
	})
}

// look finds out which chunks the store has.
func (j *fileJob) look() error {
	_, size := j.cut.Span(0)
	buf := make([]byte, size)
	for i := range j.layer {
		offset, n := j.cut.Span(i)
		read, err := j.o.To.ReadAt(buf[:n], offset)
		if err != nil && err != io.EOF {
			return err
		}
		if int64(read) == n && j.cut.RootOf(buf[:n]) == j.layer[i] {
			j.have += n
		} else {
			j.missing = append(j.missing, i)
		}
	}
	return nil
}

// plan says which chunks a window of n takes, behind the first skip that are
// missing.
func (j *fileJob) plan(skip, n int) (indices []int) {
	var price lightning.Msat
	var size int64
	for _, i := range j.missing[skip:] {
		_, length := j.cut.Span(i)
		price += exchange.ChunkPrice(j.price, length)
		size += length
		over := j.o.Exposure > 0 && price > j.o.Exposure || size > maxWindowBytes
		if len(indices) == n || over && len(indices) > 0 {
			break
		}
		indices = append(indices, i)
	}
	return indices
}

// A chunkOffer is a chunk that was checked and can be paid for.
type chunkOffer struct {
	exchange.Chunk
	inv lightning.Invoice
}

// A fetching is chunks on their way.
type fetching struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the rest is set
	offers []chunkOffer
	err    error
}

// fetch asks for chunks. Without any to ask for it does nothing.
func (j *fileJob) fetch(ctx context.Context, indices []int) *fetching {
	if len(indices) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fetching{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer cancel()
		f.err = j.b.withPass(ctx, j.peer, j.t, false, func(v *pass) error {
			var err error
			f.offers, err = j.ask(ctx, v, indices)
			return err
		})
		if f.err != nil && ctx.Err() == nil {
			j.b.fault(j.peer, 0, f.err)
		}
	}()
	return f
}

func (f *fetching) wait() ([]chunkOffer, error) {
	<-f.done
	return f.offers, f.err
}

func (f *fetching) drop() {
	if f != nil {
		f.cancel()
		<-f.done
	}
}

// ask gets chunks, and holds each against what was asked for. If the line
// breaks, those that came before count.
func (j *fileJob) ask(ctx context.Context, v *pass, indices []int) (offers []chunkOffer, err error) {
	req := exchange.ChunkRequest{Cut: j.cut, Indices: indices, Nonce: exchange.NewNonce()}
	err = j.o.Provider.chunks(ctx, v.credential, req, func(c exchange.Chunk) error {
		_, length := j.cut.Span(c.Index)
		now := time.Now()
		inv, err := exchange.Keyed{}.Check(c, exchange.ChunkTerms{
			Cut: j.cut, Index: c.Index, Root: j.layer[c.Index], Nonce: req.Nonce, Provider: j.signer,
			Ceiling: exchange.ChunkPrice(j.price, length),
		}, now)
		if err == nil && (inv.Expiry > maxLife || !now.Add(margin).Before(c.Expires) || inv.Expired(now.Add(margin))) {
			err = fmt.Errorf("expires within %v, or in more than %v: %w", margin, maxLife, ErrTerms)
		}
		if err != nil {
			return unsound{fmt.Errorf("%s: chunk %d: %w", j.peer, c.Index, err)}
		}
		offers = append(offers, chunkOffer{c, inv})
		return nil
	})
	if _, bad := errors.AsType[unsound](err); err != nil && !bad && len(offers) > 0 {
		err = nil
	}
	return offers, err
}

// unsound is an offer that must not be paid.
type unsound struct{ error }

func (u unsound) Unwrap() error { return u.error }

// buy pays for all offers at once and puts what they give into the store. It
// returns when the outcome of each payment is known, or callers are not to wait
// any longer. good counts the chunks that are in the store.
func (j *fileJob) buy(ctx context.Context, offers []chunkOffer) (good int, err error) {
	flights := make([]*flight, len(offers))
	errs := make([]error, 0, len(offers))
	for n, o := range offers {
		var err error
		if flights[n], err = j.pay(ctx, o); err != nil {
			errs = append(errs, err)
			break // what was not begun is not owed
		}
	}
	var done []lightning.Hash
	for n, f := range flights {
		if f == nil {
			break
		}
		key, err := f.wait(ctx)
		if err == nil {
			err = j.open(ctx, f.Purchase, offers[n].Chunk, key)
		}
		if err == nil {
			j.got(offers[n].Index)
			good++
		} else {
			errs = append(errs, err)
		}
		if err == nil || j.worthless(f.KeyHash, err) {
			done = append(done, f.Hash)
		}
	}
	return good, worst(append(errs, j.deliver(ctx, done)))
}

// worthless reports whether a parcel need not be kept after err: its payment
// failed for good, or bought nothing.
func (j *fileJob) worthless(keyHash [32]byte, err error) bool {
	return errors.Is(err, ErrCheated) || errors.Is(err, lightning.ErrFailed) && !j.b.inDoubt(keyHash)
}

// worst joins errors so that one that means stop is not taken for a payment
// that failed, which may be tried again.
func worst(errs []error) error {
	err := errors.Join(errs...)
	for _, e := range errs {
		if e != nil && !errors.Is(e, lightning.ErrFailed) {
			return e
		}
	}
	return err
}

// pay begins the payment for one chunk. The chunk is in the books before money
// leaves: nobody else has these bytes.
func (j *fileJob) pay(ctx context.Context, o chunkOffer) (*flight, error) {
	seg := htlcdash.Segment{Title: j.t.id, Representation: "chunks", Index: o.Index, Seal: htlcdash.Seal{
		Sealed: o.Commitment, KeyHash: o.Hash, Price: o.Price,
	}}
	q := &quote{
		peer: j.peer, inv: o.inv, signer: j.signer, promise: o.ChunkPromise.Encode(), parcel: o.Encode(),
		Offer: exchange.Offer{Sealed: o.Commitment, Price: o.Price, Hash: o.Hash, Expires: o.Expires, Signature: o.Signature},
	}
	limit := j.o.Exposure
	if limit == 0 {
		limit = NoLimit
	}
	if err := j.peer.expose(ctx, o.Price, limit, j.b.c.Patience); err != nil {
		return nil, err
	}
	f, mine, err := j.b.begin(ctx, seg, q, nil, o.Price)
	if !mine {
		j.peer.proved(o.Price)
	}
	return f, err
}

// open checks what a key opens, and puts it where it belongs.
func (j *fileJob) open(ctx context.Context, bought ledger.Purchase, c exchange.Chunk, key htlcdash.Key) error {
	preimage := lightning.NewPreimage(key.Reveal())
	plain, err := exchange.Keyed{}.Open(c, preimage)
	if bad, ok := errors.AsType[*exchange.CellError](err); ok {
		j.b.cheatedBy(ctx, bought, fraud.Keyed{
			Provider: bought.Signer, Promise: c.ChunkPromise, Signature: c.Signature, Preimage: preimage, Evidence: c.Evidence(bad.Cell),
		}, err)
		return fmt.Errorf("%s took %v: %w", bought.Provider, bought.Amount, err)
	}
	if err != nil {
		return err
	}
	offset, _ := c.Span(c.Index)
	_, err = j.o.To.WriteAt(plain, offset)
	return err
}

func (j *fileJob) got(i int) {
	j.missing = slices.DeleteFunc(j.missing, func(m int) bool { return m == i })
	_, n := j.cut.Span(i)
	j.have += n
}

// deliver forgets parcels once their bytes are durable in the store.
func (j *fileJob) deliver(ctx context.Context, hashes []lightning.Hash) error {
	if len(hashes) == 0 {
		return nil
	}
	if err := j.o.To.Sync(); err != nil {
		return err
	}
	j.b.c.Step("stored")
	return j.b.c.Ledger.Delivered(context.WithoutCancel(ctx), hashes...)
}

// resume opens the chunks that an earlier run has ordered and not stored, and
// waits for those whose payment is not known yet.
func (j *fileJob) resume(ctx context.Context) error {
	parcels, err := j.b.c.Ledger.Parcels(ctx, j.t.id)
	if err != nil {
		return err
	}
	var done []lightning.Hash
	for _, p := range parcels {
		c, err := exchange.ParseChunk(p.Parcel)
		if err != nil {
			return fmt.Errorf("parcel of payment %s: %w: %w", p.Hash, ledger.ErrDamaged, err)
		}
		key, err := j.keyOf(ctx, p)
		if err == nil {
			err = j.open(ctx, p, c, key)
		}
		switch {
		case err == nil, j.worthless(p.KeyHash, err), errors.Is(err, htlcdash.ErrNotFound): // the last: paid, and no key came
			done = append(done, p.Hash)
		case !errors.Is(err, lightning.ErrFailed): // which may yet go out
			return err
		}
	}
	return j.deliver(ctx, done)
}

// keyOf returns the key that a purchase bought, and waits for it if its outcome
// is not known.
func (j *fileJob) keyOf(ctx context.Context, p ledger.Purchase) (htlcdash.Key, error) {
	seg := htlcdash.Segment{Seal: htlcdash.Seal{KeyHash: p.KeyHash}}
	if key, err := j.b.c.Ledger.Key(ctx, seg.Seal); err == nil || !errors.Is(err, htlcdash.ErrNotFound) {
		return key, err
	}
	if err := j.b.reconsiderAll(ctx, seg); err != nil {
		return htlcdash.Key{}, err
	}
	if f := j.b.flight(seg); f != nil {
		return f.wait(ctx)
	}
	if p.State == lightning.Failed {
		return htlcdash.Key{}, fmt.Errorf("payment %s: %w: %s", p.Hash, lightning.ErrFailed, p.Reason)
	}
	return j.b.c.Ledger.Key(ctx, seg.Seal) // it may have come in between
}

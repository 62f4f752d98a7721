// Package seller is the HTTP face of a provider: manifests and sealed bytes for
// everybody, offers for those who want to pay, and a page for the operator.
//
//	GET  /v1/provider, /v1/titles       who sells, and what
//	GET  /t/{name}/manifest.mpd, ...    signed files, free
//	GET  /sealed/{Q}                    sealed bytes, immutable; free, unless they have a price
//	POST /v1/carriage                   with a credential: pays for sealed bytes that came
//	POST /v1/credentials                anonymous credentials
//	POST /v1/offers                     with one: an invoice for each of up to 64 segments
//	POST /v1/proofs                     with one: proofs that their preimages give the keys
//	POST /v1/keys                       with one: what was paid for, again
//	GET  /v1/files, /v1/files/{root}    files that are sold by the chunk
//	POST /v1/chunks                     with a credential: chunks, sealed for its holder
//	GET  /v1/announcements, /v1/relay   the directory: who sells what, here and elsewhere
//	GET  /t/{name}/<media segment>      402, or the plain bytes for who has prepaid
//
// Our own viewers take offers in batches and fetch sealed bytes; the 402 is for
// clients that know nothing of us. The seller is off the path while a payment
// travels: the node settles it alone, and the books follow its receipts.
//
// It does not protect the operator's page by a password: that stands on a
// listener of its own. It does not speak TLS: put a proxy before it
// (spec/04-provider.md).
package seller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/porter"
	"htlcdash/internal/proof"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// What a Config's zero means.
const (
	defaultOfferRate    = 500  // offers a second for one address
	defaultOfferBurst   = 2048 // offers
	defaultInvoiceRate  = 1.0  // invoices of 402s a second for one address
	defaultInvoiceBurst = 30
	defaultOpenOffers   = 20_000
	strangersOffers     = 4_000   // twice as many of those as who shows no credential gets at most
	strangersBytes      = 4 << 30 // sealed bytes for one address at once, and in an hour
	nodeCalls           = 64      // invoices that the node makes at once, a quarter of them for who has not paid yet
	nodeTimeout         = 15 * time.Second
	offerPatience       = 5 * time.Second            // of who asks for offers, for the node to begin with them
	proofPatience       = exchange.ProofDeadline / 2 // of who asks for a proof, for us to begin
	shutdownTimeout     = 10 * time.Second
)

// A Config says what is sold, for whom the money is, and what a stranger may
// ask for.
type Config struct {
	Titles []string        // folders of titles, or folders that hold such; required unless there are Files or Resold
	Payee  lightning.Payee // makes the invoices; required
	// Receipts are the payees whose receipts are income, each with a numbering of
	// its own. nil: Payee, which is a node.
	Receipts map[ledger.Source]lightning.Payee
	Secret   exchange.Secret // required; a new one makes open credentials worthless
	Proofs   []proof.System  // in which offers are proved; empty: none are, and few viewers buy
	Books    *ledger.Ledger  // required; the caller closes it

	// Sealed has sealed bytes that are not in the titles' folders; nil: only what
	// lies there is sold. Elsewhere is told of each title when it is loaded, and
	// reports whether Sealed may have its bytes; nil: of none. It has those of
	// titles without a key file.
	Sealed    Sealed
	Elsewhere func(*title.Title) bool

	// Resold is a folder of titles that others publish and that are sold on,
	// unless they are among Titles, too: it may be empty, and change (see
	// [Seller.Reload]). Empty: none. Titles without a key file are not sold to
	// foreign clients.
	Resold string
	// Bought holds the keys that the provider has bought; nil: none. With it, or
	// with a Relay, titles need no key file.
	Bought Keyring
	// Shelf is Bought, where that buys by itself; nil: it does not.
	Shelf Shelf
	// Relay passes on keys that are not here; nil: what is not here is not sold,
	// unless the Shelf gets it. It needs Holder, which makes its invoices on the
	// node of Payee's money.
	Relay  Relay
	Holder lightning.Holder

	// Files is a folder whose files are sold by the chunk, whoever published
	// them; empty: none. FilePrice is that of a MiB.
	Files     string
	FilePrice lightning.Msat

	Node     lightning.NodeID
	Alias    string        // the provider's name: for people, and the realm of challenges
	Channels ChannelLister // for the operator's page; nil: it shows none

	// BytePrice is that of a MiB of sealed bytes; 0: they are free. What costs money
	// is sent to credentials only, which owe no more than ByteStep bytes; 0: as
	// [exchange.NewCarriage] has it. Where bytes have a price, a title without a key
	// file is carried, and no keys of it are sold.
	BytePrice lightning.Msat
	ByteStep  int64

	// Price is what a segment costs here; nil: what the publisher asks, which
	// is also the ceiling. See [Factor].
	Price func(htlcdash.Segment) lightning.Msat
	// OfferLife is how long an offer can be paid at most; 0: [exchange.OfferLife].
	OfferLife time.Duration
	// Prepaid says, by a title's name, whether a 402 carries an invoice for
	// clients that know no seals; nil: never.
	Prepaid func(name string) bool

	Issue      Issue          // how credentials are given out; empty: [IssueLimited]
	IssuePrice lightning.Msat // of a batch of 32; required where they are sold
	Rations    Rations        // for one credential
	// StrangerBytes bounds the sealed bytes that one address gets without a
	// credential, at once and then in an hour; 0: 4 GiB, below 0: no bound.
	StrangerBytes int64

	// TrustedProxies may say by X-Forwarded-For who asks.
	TrustedProxies []netip.Prefix
	OfferRate      float64 // offers a second for one address; 0: 500
	OfferBurst     int     // offers at once for one address; 0: 2048
	InvoiceRate    float64 // invoices by 402 a second for one address; 0: 1
	InvoiceBurst   int     // the same at once; 0: 30
	MaxOpenOffers  int     // that can be paid, of all together; 0: 20000

	// Directory serves /v1/announcements and /v1/relay, and websockets at /; nil:
	// nobody does. The remote addresses that it sees are those of who asks,
	// whatever proxies are between.
	Directory http.Handler
	// OnSale is told which titles are on sale, from the start on and after each
	// Reload; nil: nobody is.
	OnSale func([]OnSale)

	Log *slog.Logger // nil: none
}

// An OnSale is a title that is sold here.
type OnSale struct {
	*title.Title        // with its seal lists
	Name         string // in paths
}

// A ChannelLister lists channels, as [lightning.Wallet] does.
type ChannelLister interface {
	Channels(ctx context.Context) ([]lightning.Channel, error)
}

// Factor is a price policy for keys: the publisher's price times f, rounded up. A
// factor of 0 gives segments away to all who ask for plain bytes.
func Factor(f float64) func(htlcdash.Segment) lightning.Msat {
	return func(s htlcdash.Segment) lightning.Msat { return lightning.Msat(math.Ceil(float64(s.Price) * f)) }
}

// A Seller sells titles. Its handlers may be called at once from many
// goroutines.
type Seller struct {
	config   Config
	log      *slog.Logger
	shelf    atomic.Pointer[shelf]
	files    atomic.Pointer[files]
	clients  *clients
	register *register
	till     exchange.Till
	paywall  *paywall
	guard    *guard
	issuer   *issuer
	provers  *lanes
	workers  int  // of provers
	own      lane // of what is made ahead
	books    *books

	accounts      *clients     // new ones, for carriage
	step          atomic.Int64 // of carriage, for the longest blob so far
	strangers     *guest       // who shows no credential: all of them
	strangerBytes *clients     // of sealed bytes, in KiB
	started       time.Time
	carrying      *semaphore.Weighted // sealed bytes from elsewhere
	loaded        chan struct{}       // says that shelf is another
	closing       chan struct{}       // closed when Serve ends
	close         sync.Once

	requests, bytes atomic.Int64

	mu       sync.Mutex
	nodeErr  string // what the node last failed with
	nodeTime time.Time
	peers    peers
}

// New loads the titles and counts the sales in the books. The error names all
// titles that cannot be sold, and what would mend it.
func New(ctx context.Context, c Config) (*Seller, error) {
	if c.Payee == nil || c.Secret.IsZero() || c.Books == nil || len(c.Titles) == 0 && c.Files == "" && c.Resold == "" {
		return nil, errors.New("seller: titles or files, payee, secret and books are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Shelf != nil && c.Bought == nil {
		c.Bought = c.Shelf
	}
	if c.Relay != nil && c.Holder == nil {
		return nil, errors.New("seller: a relay needs a node that holds payments")
	}
	shelf, err := load(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	if c.Files != "" {
		c.Log.Info("hashing files", "folder", c.Files)
	}
	files, err := loadFiles(ctx, c.Files, c.FilePrice, nil)
	if err != nil {
		return nil, err
	}
	s := &Seller{
		config:   c,
		log:      c.Log,
		clients:  newClients(rate.Limit(cmp.Or(c.OfferRate, defaultOfferRate)), cmp.Or(c.OfferBurst, defaultOfferBurst)),
		started:  time.Now(),
		carrying: semaphore.NewWeighted(carriedMemory),
		loaded:   make(chan struct{}, 1),
		closing:  make(chan struct{}),
	}
	if err := (exchange.Carriage{Price: c.BytePrice, Step: c.ByteStep}).Check(); err != nil && (c.BytePrice <= 0 || c.ByteStep != 0) {
		return nil, fmt.Errorf("seller: %w", err)
	}
	s.accounts = newAccounts()
	s.putFiles(files)
	s.register = newRegister(c.Payee, cmp.Or(c.MaxOpenOffers, defaultOpenOffers), nodeCalls)
	s.register.holder = c.Holder
	s.strangers = &guest{rations: &Rations{OpenOffers: strangersOffers}}
	s.till = exchange.NewTill(s.register.counter(s.strangers), c.Secret, c.OfferLife)
	s.paywall = &paywall{
		Prepaid: exchange.Prepaid{Till: s.till, Realm: realm(c.Alias)},
		clients: newClients(rate.Limit(cmp.Or(c.InvoiceRate, defaultInvoiceRate)), cmp.Or(c.InvoiceBurst, defaultInvoiceBurst)),
		memory:  semaphore.NewWeighted(openMemory),
		made:    newLRU[challengeKey, lightning.Invoice](maxChallenges),
		seen:    newLRU[lightning.Hash, struct{}](maxChallenges),
	}
	keys, err := credential.NewKeyring(c.Secret.Issuer(), epochLength)
	if err != nil {
		return nil, err
	}
	s.guard = newGuard(keys, c.Books, c.Rations)
	if s.issuer, err = newIssuer(keys, cmp.Or(c.Issue, IssueLimited), c.IssuePrice); err != nil {
		return nil, err
	}
	s.workers = runtime.GOMAXPROCS(0)
	s.provers = &lanes{free: s.workers, patience: proofPatience}
	if n := cmp.Or(c.StrangerBytes, strangersBytes) >> 10; n >= 0 {
		s.strangerBytes = newClients(rate.Limit(float64(n)/3600), int(max(n, 1)))
	}
	s.books = newBooks(c.Books, s.register, c.Log)
	s.books.worth, s.books.noted, s.books.told = s.worth, s.noted, s.sold
	if err := s.books.load(ctx); err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	s.put(shelf)
	return s, nil
}

// realm is name as a quoted-string can hold it.
func realm(name string) string {
	clean := []byte{}
	for _, c := range []byte(name) {
		if c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '|' && len(clean) < 64 {
			clean = append(clean, c)
		}
	}
	if len(clean) == 0 {
		return "htlcdash"
	}
	return string(clean)
}

// Reload reads the folders of titles and files again. A title that is broken now stays as
// it was, or is left out if it is new, and the error says so. Requests that
// run are not disturbed.
func (s *Seller) Reload(ctx context.Context) error {
	shelf, err := load(ctx, s.config, s.shelf.Load())
	s.put(shelf)
	files, fileErr := loadFiles(ctx, s.config.Files, s.config.FilePrice, s.files.Load())
	if fileErr == nil {
		s.putFiles(files)
	}
	return errors.Join(err, fileErr)
}

func (s *Seller) put(shelf *shelf) {
	s.stretch(shelf)
	for _, t := range shelf.byName {
		if !t.resold && t.missing > 0 {
			s.log.Warn("segments are not on sale: their keys are not here, or their sealed bytes neither here nor in a source", "title", t.name, "segments", t.missing)
		}
	}
	s.shelf.Store(shelf)
	if s.config.OnSale != nil {
		list := []OnSale{}
		for _, name := range shelf.names() {
			t := shelf.byName[name]
			list = append(list, OnSale{t.Title, name})
		}
		s.config.OnSale(list)
	}
	select {
	case s.loaded <- struct{}{}:
	default:
	}
	s.log.Info("titles on sale", "titles", shelf.names())
}

func (s *Seller) putFiles(set *files) {
	s.files.Store(set)
	if n := len(set.list); n > 0 {
		s.log.Info("files on sale", "folder", s.config.Files, "files", n)
	}
}

// Serve answers viewers on public and the operator on operator, which may be
// nil, and books the node's receipts, until ctx is done. Then it lets running
// requests end for a few seconds, closes both listeners, and returns nil. It
// is called once.
func (s *Seller) Serve(ctx context.Context, public, operator net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for from, payee := range s.receipts() {
		wg.Go(func() { s.books.follow(ctx, from, payee) })
	}
	wg.Go(func() { s.books.forget(ctx, s.till.Life) })
	wg.Go(func() { s.guard.forget(ctx) })
	wg.Go(func() { s.surveyed(ctx) })
	wg.Go(func() { s.stock(ctx) })
	serve := func(l net.Listener, h http.Handler) {
		if l != nil {
			wg.Go(func() { cancel(s.listen(ctx, l, h)) })
		}
	}
	serve(public, s.Handler())
	serve(operator, s.OperatorHandler())
	<-ctx.Done()
	s.close.Do(func() { close(s.closing) })
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// listen serves l until ctx is done. It returns an error only if l failed.
func (s *Seller) listen(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // no body of ours is large
		WriteTimeout:      time.Minute,      // patience gives more
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    48 << 10,
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return porter.Serve(ctx, l, server, shutdownTimeout)
}

// nodeFailed notes, for the log and the operator's page, that the node does
// not make invoices. It logs at most once a second.
func (s *Seller) nodeFailed(err error) {
	if errors.Is(err, context.Canceled) {
		return // the client went away
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.nodeTime) > time.Second {
		s.log.Error("no offer", "err", err)
	}
	s.nodeErr, s.nodeTime = err.Error(), time.Now()
}

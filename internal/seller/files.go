package seller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// chunkRung stands in the books where a sale of a segment has its
// Representation.
const chunkRung = "chunks"

// files is what is on sale by the chunk. It does not change: a reload makes
// another, and the folder of the old one is closed when its last reader is gone.
type files struct {
	root   *os.Root // nil: there are none
	byRoot map[htlcdash.Root]*file
	list   []exchange.FileInfo // in the order of names
}

// A file is one that is on sale. It lies open in the folder, and is read again
// for each chunk.
type file struct {
	exchange.FileInfo
	path     string          // in the folder
	layer    []htlcdash.Root // of its chunks
	modified time.Time
}

// loadFiles hashes all files in folder, at a price of a MiB. What old has of
// them already, by name, size and time, is not read again.
func loadFiles(ctx context.Context, folder string, price lightning.Msat, old *files) (*files, error) {
	set := &files{byRoot: map[htlcdash.Root]*file{}}
	if folder == "" {
		return set, nil
	}
	if price <= 0 || price > exchange.MaxFilePrice {
		return nil, fmt.Errorf("files: price of %v for a MiB, want more than nothing and at most %v", price, exchange.MaxFilePrice)
	}
	var err error
	if set.root, err = os.OpenRoot(folder); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	known := map[string]*file{}
	if old != nil {
		for _, f := range old.byRoot {
			known[f.path] = f
		}
	}
	names, err := namesIn(set.root.FS())
	for _, name := range names {
		if err != nil {
			break
		}
		if err = ctx.Err(); err == nil {
			err = set.add(name, price, known[name])
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("files in %s: %w", folder, err), set.root.Close())
	}
	return set, nil
}

// namesIn lists what can be sold: plain files, none of which nor its folder is
// hidden.
func namesIn(folder fs.FS) (names []string, err error) {
	err = fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular() && len(name) <= exchange.MaxFileName:
			if names = append(names, name); len(names) > exchange.MaxFiles {
				return fmt.Errorf("more than %d", exchange.MaxFiles)
			}
		}
		return nil
	})
	return names, err
}

func (s *files) add(name string, price lightning.Msat, known *file) error {
	r, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	f := &file{path: name, modified: info.ModTime()}
	f.FileInfo, f.layer, err = hashFile(r, name, price, known, info)
	if err != nil || f.Length == 0 {
		return err
	}
	if err := f.Cut().Check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, twice := s.byRoot[f.Root]; !twice {
		s.byRoot[f.Root] = f
		s.list = append(s.list, f.FileInfo)
	}
	return nil
}

func hashFile(r io.Reader, name string, price lightning.Msat, known *file, info fs.FileInfo) (exchange.FileInfo, []htlcdash.Root, error) {
	if known != nil && known.Price == price && known.Length == info.Size() && known.modified.Equal(info.ModTime()) {
		return known.FileInfo, known.layer, nil
	}
	leaves, length, err := htlcdash.HashLeaves(r)
	if err != nil {
		return exchange.FileInfo{}, nil, err
	}
	f := exchange.FileInfo{
		Root: htlcdash.FoldLayer(leaves, 1, 1), Length: length, Name: strings.ToValidUTF8(name, "?"),
		Leaves: exchange.ChooseLeaves(length, price), Price: price,
	}
	return f, f.Cut().Layer(leaves), nil
}

// find returns the file with a root. The error matches [htlcdash.ErrNotFound].
func (s *files) find(root htlcdash.Root) (*file, error) {
	f := s.byRoot[root]
	if f == nil {
		return nil, fmt.Errorf("file %s: %w", root, htlcdash.ErrNotFound)
	}
	return f, nil
}

// read returns the bytes of a chunk, whatever they are now.
func (s *files) read(f *file, chunk int) ([]byte, error) {
	r, err := s.root.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	offset, length := f.Cut().Span(chunk)
	plain := make([]byte, length)
	if n, err := r.ReadAt(plain, offset); err != nil && n < len(plain) {
		return nil, err
	}
	return plain, nil
}

// serveFiles answers GET /v1/files.
func (s *Seller) serveFiles(w http.ResponseWriter, r *http.Request) error {
	return serveInfo(w, r, exchange.FileList{Provider: s.till.Key.ID(), Files: append([]exchange.FileInfo{}, s.files.Load().list...)})
}

// serveFile answers GET /v1/files/{root}: the list, with this file alone.
func (s *Seller) serveFile(w http.ResponseWriter, r *http.Request) error {
	f, err := s.fileOf(r)
	if err != nil {
		return err
	}
	return serveInfo(w, r, exchange.FileList{Provider: s.till.Key.ID(), Files: []exchange.FileInfo{f.FileInfo}})
}

// serveLayer answers GET /v1/files/{root}/layer: the roots of its chunks.
func (s *Seller) serveLayer(w http.ResponseWriter, r *http.Request) error {
	f, err := s.fileOf(r)
	if err != nil {
		return err
	}
	b := make([]byte, 0, 32*len(f.layer))
	for _, root := range f.layer {
		b = append(b, root[:]...)
	}
	return serveFree(w, r, freeFile{
		etag:    fmt.Sprintf(`"%s-%d"`, f.Root, f.Leaves),
		content: func(context.Context) ([]byte, error) { return b, nil },
	})
}

func (s *Seller) fileOf(r *http.Request) (*file, error) {
	root, err := htlcdash.ParseRoot(r.PathValue("root"))
	if err != nil {
		return nil, err
	}
	return s.files.Load().find(root)
}

// serveChunks answers POST /v1/chunks: offers for chunks of a file, each with
// the chunk, sealed for this guest alone. All offers are in the books before
// the first byte is sent. What is sealed counts as not paid for until it is.
func (s *Seller) serveChunks(w http.ResponseWriter, r *http.Request) error {
	v, body, err := s.guestOf(w, r, exchange.MaxRequestBytes, s.guard.admit)
	if err != nil {
		return err
	}
	req, err := exchange.ParseChunkRequest(body)
	if err != nil {
		return err
	}
	set := s.files.Load()
	f, err := set.find(req.File.Root)
	if err == nil && f.Cut() != req.Cut {
		err = fmt.Errorf("file %s of %d bytes in chunks of %d leaves: %w", f.Root, f.Length, f.Leaves, htlcdash.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if wait, ok := s.clients.allow(s.from(r), len(req.Indices)); !ok {
		return errLimited{wait}
	}
	var size int64
	for _, i := range req.Indices {
		_, n := req.Span(i)
		size += n
	}
	if err := v.served(size); err != nil {
		return err
	}
	rest := size // that is not sent
	defer func() { _ = v.served(-rest) }()
	sales, err := s.sellChunks(r.Context(), v, f, req)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	patience(w, size)
	for n, sale := range sales {
		sent, err := s.sendChunk(r.Context(), w, set, f, sale)
		if err != nil && n == 0 {
			return err
		}
		if err != nil {
			s.log.Warn("chunks cut short", "file", f.Name, "chunk", sale.Index, "err", err)
			return nil // the client sees that some are missing
		}
		rest -= sent
	}
	return nil
}

// sellChunks makes the offers, all at once, and books them.
func (s *Seller) sellChunks(ctx context.Context, v *guest, f *file, req exchange.ChunkRequest) ([]exchange.ChunkSale, error) {
	node, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	till := s.till
	till.Payee = s.register.counter(v)
	made, errs := make([]exchange.ChunkSale, len(req.Indices)), make([]error, len(req.Indices))
	now := time.Now()
	var wg sync.WaitGroup // the register bounds how many calls reach the node
	for n, i := range req.Indices {
		wg.Go(func() {
			_, length := req.Span(i)
			made[n], errs[n] = exchange.Keyed{}.Sell(node, till, v.shared, req.Cut, i, req.Nonce, exchange.ChunkPrice(f.Price, length), now)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		if !errors.Is(err, errBusy) {
			s.nodeFailed(err)
		}
		return nil, err
	}
	sales := make([]ledger.Sale, len(made))
	for n, m := range made {
		sales[n] = ledger.Sale{
			Hash: m.Hash, Title: htlcdash.TitleID(f.Root), Representation: chunkRung, Index: m.Index,
			Sealed: f.Root, Scheme: exchange.SchemeKeyed, Amount: m.Price, Created: now,
		}
	}
	return made, s.book(ctx, sales)
}

// sendChunk seals one chunk and sends it. It holds few in memory at once, of
// all guests together.
func (s *Seller) sendChunk(ctx context.Context, w io.Writer, set *files, f *file, sale exchange.ChunkSale) (int64, error) {
	_, length := f.Cut().Span(sale.Index)
	if err := s.paywall.memory.Acquire(ctx, 3*length); err != nil {
		return 0, err
	}
	defer s.paywall.memory.Release(3 * length)
	plain, err := set.read(f, sale.Index)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f.Name, err)
	}
	c, err := sale.Seal(s.till.Key, plain, f.layer[sale.Index])
	if err != nil {
		return 0, fmt.Errorf("%s has changed since it was hashed: %w", f.Name, err)
	}
	_, err = w.Write(c.Encode())
	return length, err
}

// chunkWorth is the bytes that a sale of a chunk pays for.
func (s *Seller) chunkWorth(sale ledger.Sale) int64 {
	f, err := s.files.Load().find(sale.Sealed)
	if err != nil || sale.Index < 0 || sale.Index >= f.Cut().Chunks() {
		return 0
	}
	_, n := f.Cut().Span(sale.Index)
	return n
}

// fileName is that of a file by the id under which its sales are booked.
func (s *Seller) fileName(id htlcdash.TitleID) (string, bool) {
	f, err := s.files.Load().find(htlcdash.Root(id))
	if err != nil {
		return "", false
	}
	return f.Name, true
}

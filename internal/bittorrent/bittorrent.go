// Package bittorrent makes the torrents of a title: what BitTorrent clients need
// to know of sealed segments, and no more. It does not talk to anybody (package
// source/torrent does), and it reads nothing that strangers wrote but to compare
// it. The format is told in spec/12-torrent.md.
//
// A Representation has one hybrid torrent (BEP 52, "upgrade path"). Its files
// are the sealed segments, by name below [htlcdash.SealedFolder], so a client
// that is pointed at a title's folder seeds it as it lies, and what it downloads
// is a folder that package source/dir can serve.
package bittorrent

import (
	"bytes"
	"crypto/sha1" // BEP 3 names pieces by it; nothing here trusts it
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"htlcdash"
)

// PieceLength is that of every hybrid torrent in bytes. A client's work for a
// connection grows with the number of pieces, and its wait for a segment with
// their size.
const PieceLength = 256 << 10

// MaxInfo bounds an info dictionary in bytes, a quarter of what common clients
// take from peers. A Representation of more than about 12,000 segments of a
// megabyte does not fit, and has no torrent.
const MaxInfo = 4 << 20

// MaxFile bounds a torrent's file in bytes: the information, and piece layers.
const MaxFile = 3 * MaxInfo

// A File is what a torrent says of one sealed segment.
type File struct {
	htlcdash.Blob
	layer  []byte // BEP 52, "piece layers": 32 bytes for each piece
	pieces []byte // BEP 3, "pieces": 20 bytes for each, the last one padded with zeros
}

// Hash reads a sealed segment once. The root is that of the seal; it is not
// computed again.
func Hash(root htlcdash.Root, sealed []byte) File {
	f := File{Blob: htlcdash.Blob{Root: root, Length: int64(len(sealed))}}
	for piece := range slices.Chunk(sealed, PieceLength) {
		leaves, _, _ := htlcdash.HashLeaves(bytes.NewReader(piece)) // which does not fail
		node := htlcdash.FoldLayer(leaves, 1, PieceLength/htlcdash.LeafSize)
		f.layer = append(f.layer, node[:]...)
		h := sha1.New()
		h.Write(piece)
		h.Write(zeros[:PieceLength-len(piece)])
		f.pieces = h.Sum(f.pieces)
	}
	return f
}

var zeros [PieceLength]byte

// Order sorts blobs as they lie in a torrent, each of them once: BEP 52 wants
// files in the order of their names.
func Order(blobs []htlcdash.Blob) []htlcdash.Blob {
	blobs = slices.Clone(blobs)
	slices.SortFunc(blobs, func(a, b htlcdash.Blob) int { return bytes.Compare(a.Root[:], b.Root[:]) })
	return slices.Compact(blobs)
}

// An InfoHash is the SHA-256 of an info dictionary, by which BitTorrent v2 knows
// a torrent.
type InfoHash [32]byte

// InfoHashOf returns the name of a torrent.
func InfoHashOf(info []byte) InfoHash { return sha256.Sum256(info) }

// Info returns the info dictionary of a hybrid torrent of files, in any order and
// perhaps with some twice, as one Representation has them. It is nil if it would
// be longer than [MaxInfo].
func Info(files []File) []byte {
	byRoot := make(map[htlcdash.Root]File, len(files))
	blobs := make([]htlcdash.Blob, len(files))
	for i, f := range files {
		blobs[i], byRoot[f.Root] = f.Blob, f
	}
	blobs = Order(blobs)
	info := begin(blobs)
	for _, b := range blobs {
		info = append(info, byRoot[b.Root].pieces...)
	}
	if info = append(info, 'e'); len(info) > MaxInfo {
		return nil
	}
	return info
}

// Check reports, by an error that matches [htlcdash.ErrCorrupt], that info is not
// the info dictionary of a hybrid torrent of blobs. The SHA-1 of the pieces are
// not in the blobs, so they are not checked.
func Check(info []byte, blobs []htlcdash.Blob) error {
	blobs = Order(blobs)
	want := begin(blobs)
	if len(info) != len(want)+sha1.Size*count(blobs)+1 || !bytes.HasPrefix(info, want) || info[len(info)-1] != 'e' {
		return fmt.Errorf("torrent: its files are not the segments of the seal list: %w", htlcdash.ErrCorrupt)
	}
	return nil
}

// count is how many pieces blobs have.
func count(blobs []htlcdash.Blob) (n int) {
	for _, b := range blobs {
		n += int((b.Length + PieceLength - 1) / PieceLength)
	}
	return n
}

// begin is an info dictionary up to the SHA-1 of its pieces, which come last
// since keys are sorted. blobs are in order.
func begin(blobs []htlcdash.Blob) []byte {
	b := []byte("d9:file treed")
	for i, blob := range blobs {
		name := blob.Root.String()
		if i == 0 || blobs[i-1].Root[0] != blob.Root[0] {
			if i > 0 {
				b = append(b, 'e')
			}
			b = append(text(b, name[:2]), 'd')
		}
		b = treeFile(b, name, blob)
	}
	b = append(b, "ee5:filesl"...)
	if len(blobs) == 0 {
		panic("bittorrent: a torrent without files")
	}
	for _, blob := range blobs {
		name := blob.Root.String()
		b = append(number(append(b, "d6:length"...), blob.Length), "4:pathl"...)
		b = append(text(text(b, name[:2]), name), "ee"...)
		// Pieces begin with a file, so all but whole ones are filled up (BEP 47).
		if pad := (PieceLength - blob.Length%PieceLength) % PieceLength; pad > 0 {
			b = append(number(append(b, "d4:attr1:p6:length"...), pad), "4:pathl4:.pad"...)
			b = append(text(b, strconv.FormatInt(pad, 10)), "ee"...)
		}
	}
	b = append(b, "e12:meta versioni2e4:name"...)
	b = append(text(b, htlcdash.SealedFolder), "12:piece length"...)
	b = append(number(b, PieceLength), "6:pieces"...)
	return append(strconv.AppendInt(b, int64(sha1.Size*count(blobs)), 10), ':')
}

// treeFile appends a file of a file tree, BEP 52.
func treeFile(b []byte, name string, blob htlcdash.Blob) []byte {
	b = append(text(b, name), "d0:d6:length"...)
	b = append(number(b, blob.Length), "11:pieces root32:"...)
	return append(append(b, blob.Root[:]...), "ee"...)
}

// Torrent returns the file that BitTorrent clients open: the info dictionary of
// files as [Info] made it, and their piece layers.
func Torrent(info []byte, files []File) []byte {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return bytes.Compare(a.Root[:], b.Root[:]) })
	files = slices.CompactFunc(files, func(a, b File) bool { return a.Root == b.Root })
	b := append(append([]byte("d4:info"), info...), "12:piece layersd"...)
	for _, f := range files {
		if f.Length <= PieceLength { // its root says all
			continue
		}
		b = append(b, "32:"...)
		b = append(b, f.Root[:]...)
		b = text(b, string(f.layer))
	}
	return append(b, "ee"...)
}

// Parse reads a file that [Torrent] gives, and nothing else: the error matches
// [htlcdash.ErrFormat], or [htlcdash.ErrCorrupt] if it is not of blobs. Layers
// are by root; each leads to it.
func Parse(b []byte, blobs []htlcdash.Blob) (info []byte, layers map[string]string, err error) {
	blobs = Order(blobs)
	const head = "d4:info"
	n := len(begin(blobs)) + sha1.Size*count(blobs) + 1
	if len(b) < len(head)+n || !bytes.HasPrefix(b, []byte(head)) {
		return nil, nil, fmt.Errorf("torrent: not one of this Representation: %w", htlcdash.ErrFormat)
	}
	info, b = b[len(head):len(head)+n], b[len(head)+n:]
	if err := Check(info, blobs); err != nil {
		return nil, nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte("12:piece layersd"))
	layers = map[string]string{}
	for _, blob := range blobs {
		if blob.Length <= PieceLength {
			continue
		}
		pieces := count([]htlcdash.Blob{blob})
		key := "32:" + string(blob.Root[:]) + strconv.Itoa(32*pieces) + ":"
		if ok = ok && bytes.HasPrefix(rest, []byte(key)) && len(rest) >= len(key)+32*pieces; !ok {
			break
		}
		layer := rest[len(key):][:32*pieces]
		rest = rest[len(key)+len(layer):]
		nodes := make([]htlcdash.Root, pieces)
		for i := range nodes {
			copy(nodes[i][:], layer[32*i:])
		}
		if htlcdash.FoldLayer(nodes, PieceLength/htlcdash.LeafSize, 1) != blob.Root {
			return nil, nil, fmt.Errorf("torrent: a piece layer does not lead to its root: %w", htlcdash.ErrCorrupt)
		}
		layers[string(blob.Root[:])] = string(layer)
	}
	if !ok || string(rest) != "ee" {
		return nil, nil, fmt.Errorf("torrent: its piece layers are not as this program writes them: %w", htlcdash.ErrFormat)
	}
	return info, layers, nil
}

// A HashRequest asks for nodes of a file's tree of hashes (BEP 52, "hash request").
// It is a stranger's word: any numbers may stand in it.
type HashRequest struct {
	BaseLayer   uint32 // layer of the nodes, 0 being that of the leaves
	Index       uint32 // of the first
	Length      uint32 // how many
	ProofLayers uint32 // above that layer whose nodes lead to the root
}

// Bounds of an answer.
const (
	pieceLayer = 4   // PieceLength is 1<<pieceLayer leaves
	maxHashes  = 512 // that BEP 52 recommends
)

// Answer returns the nodes that r asks for out of a file's piece layer, 32 bytes for
// each piece, and the siblings that prove them, from the lowest up. It gives no
// others than those of the piece layer: false.
func (r HashRequest) Answer(layer []byte) ([]htlcdash.Root, bool) {
	nodes := make([]htlcdash.Root, len(layer)/len(htlcdash.Root{}))
	for i := range nodes {
		copy(nodes[i][:], layer[len(nodes[i])*i:])
	}
	height := bits.Len(uint(max(len(nodes), 1) - 1)) // of the root above the layer
	span := bits.Len32(r.Length) - 1                 // of what is asked for
	first, end := uint64(r.Index), uint64(r.Index)+uint64(r.Length)
	if r.BaseLayer != pieceLayer || r.Length < 2 || r.Length > maxHashes || r.Length != 1<<span ||
		first%uint64(r.Length) != 0 || end > 1<<height || int64(r.ProofLayers) >= int64(height) {
		return nil, false
	}
	// under is the node so many layers above the piece layer.
	under := func(up int, index uint64) htlcdash.Root {
		from, to := min(index<<up, uint64(len(nodes))), min((index+1)<<up, uint64(len(nodes)))
		return htlcdash.FoldLayer(nodes[from:to], PieceLength/htlcdash.LeafSize, 1<<up)
	}
	var out []htlcdash.Root
	for i := first; i < end; i++ {
		out = append(out, under(0, i))
	}
	// What is asked for makes up its own ancestors as far as its span.
	for up := span; up <= int(r.ProofLayers); up++ {
		out = append(out, under(up, first>>up^1))
	}
	return out, true
}

// text appends a byte string, BEP 3.
func text(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

// number appends an integer, BEP 3.
func number(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, 'i'), n, 10), 'e')
}

// Magnet returns the link by which any client finds a hybrid torrent, by both of
// its infohashes (BEP 9, 52).
func Magnet(info []byte) string {
	return fmt.Sprintf("magnet:?xt=urn:btih:%x&xt=urn:btmh:1220%x", sha1.Sum(info), InfoHashOf(info))
}

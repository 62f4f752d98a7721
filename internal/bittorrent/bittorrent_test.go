package bittorrent_test

import (
	"bytes"
	"errors"
	"math/bits"
	"testing"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/source/sourcetest"
)

// made is a torrent of segments below, at and above the length of a piece, one
// of them twice.
func made(t testing.TB) (info, file []byte, blobs []htlcdash.Blob) {
	t.Helper()
	var files []bittorrent.File
	for seed, leaves := range []int{1, 16, 17, 64, 40, 1} {
		b, data := sourcetest.Blob(byte(seed%5), leaves*htlcdash.LeafSize)
		files, blobs = append(files, bittorrent.Hash(b.Root, data)), append(blobs, b)
	}
	info = bittorrent.Info(files)
	return info, bittorrent.Torrent(info, files), blobs
}

// Another implementation reads the same, and finds nothing to say against it.
func TestOthersReadIt(t *testing.T) {
	info, file, blobs := made(t)
	var m metainfo.MetaInfo
	if err := bencode.Unmarshal(file, &m); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.InfoBytes, info) {
		t.Error("the file holds other information")
	}
	read, err := m.UnmarshalInfo()
	if err != nil {
		t.Fatal(err)
	}
	if err := metainfo.ValidatePieceLayers(m.PieceLayers, &read.FileTree, read.PieceLength); err != nil {
		t.Error(err)
	}
	again, err := bencode.Marshal(&read)
	if err != nil || !bytes.Equal(again, info) {
		t.Errorf("written again it is other information (%v)", err)
	}
	files := read.UpvertedFiles()
	for i, b := range bittorrent.Order(blobs) {
		if f := files[i]; f.Length != b.Length || htlcdash.Root(f.PiecesRoot.Value) != b.Root || f.Path[1] != b.Root.String() {
			t.Errorf("file %d is %v, want %v", i, f, b)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	info, file, blobs := made(t)
	if err := bittorrent.Check(info, blobs); err != nil {
		t.Fatal(err)
	}
	if err := bittorrent.Check(info, blobs[1:5]); !errors.Is(err, htlcdash.ErrCorrupt) {
		t.Errorf("fewer segments: %v", err)
	}
	for name, b := range map[string][]byte{
		"cut": file[:len(file)-1], "longer": append(bytes.Clone(file), 'e'), "nothing": nil,
		"another layer": bytes.Replace(file, file[len(file)-40:len(file)-30], make([]byte, 10), 1),
	} {
		if _, _, err := bittorrent.Parse(b, blobs); !errors.Is(err, htlcdash.ErrCorrupt) && !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, file, blobs := made(f)
	f.Add(file)
	f.Add([]byte("d4:infod"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, _, err := bittorrent.Parse(b, blobs)
		switch {
		case err == nil && bittorrent.Check(info, blobs) != nil:
			t.Error("other segments were taken")
		case err != nil && !errors.Is(err, htlcdash.ErrCorrupt) && !errors.Is(err, htlcdash.ErrFormat):
			t.Errorf("got %v", err)
		}
	})
}

// leads follows an answer up to the root of a file, as one does who asked.
func leads(r bittorrent.HashRequest, answer []htlcdash.Root) htlcdash.Root {
	node := htlcdash.FoldLayer(answer[:r.Length], bittorrent.PieceLength/htlcdash.LeafSize, 1)
	index := r.Index / r.Length
	for _, sibling := range answer[r.Length:] {
		pair := []htlcdash.Root{node, sibling}
		if index%2 == 1 {
			pair = []htlcdash.Root{sibling, node}
		}
		node, index = htlcdash.FoldLayer(pair, 1, 1), index/2
	}
	return node
}

func TestHashes(t *testing.T) {
	const pieces = 5 // so the layer has eight nodes, and three layers lie above it
	b, data := sourcetest.Blob(9, pieces*bittorrent.PieceLength-3*htlcdash.LeafSize)
	file := bittorrent.Hash(b.Root, data)
	_, layers, err := bittorrent.Parse(bittorrent.Torrent(bittorrent.Info([]bittorrent.File{file}), []bittorrent.File{file}), []htlcdash.Blob{b})
	if err != nil {
		t.Fatal(err)
	}
	layer := []byte(layers[string(b.Root[:])])
	for _, r := range []bittorrent.HashRequest{
		{BaseLayer: 4, Length: 8},
		{BaseLayer: 4, Length: 8, ProofLayers: 2},
		{BaseLayer: 4, Length: 4, ProofLayers: 2},
		{BaseLayer: 4, Index: 4, Length: 4, ProofLayers: 2},
		{BaseLayer: 4, Length: 2, ProofLayers: 2},
		{BaseLayer: 4, Index: 4, Length: 2, ProofLayers: 2},
		{BaseLayer: 4, Index: 6, Length: 2, ProofLayers: 2},
	} {
		if got, ok := r.Answer(layer); !ok || leads(r, got) != b.Root {
			t.Errorf("%+v: %d hashes, %v, which do not lead to the root", r, len(got), ok)
		}
	}
	for name, r := range map[string]bittorrent.HashRequest{
		"none": {BaseLayer: 4}, "one": {BaseLayer: 4, Length: 1}, "no power of two": {BaseLayer: 4, Length: 3},
		"beyond the file": {BaseLayer: 4, Index: 8, Length: 8}, "too many": {BaseLayer: 4, Length: 16},
		"across subtrees": {BaseLayer: 4, Index: 2, Length: 4}, "above the root": {BaseLayer: 4, Length: 8, ProofLayers: 3},
		"leaves": {Length: 8}, "the layer above": {BaseLayer: 5, Length: 2}, "an overflow": {BaseLayer: 4, Index: 1<<32 - 2, Length: 2},
	} {
		if got, ok := r.Answer(layer); ok {
			t.Errorf("%s: %d hashes", name, len(got))
		}
	}
	if got, ok := (bittorrent.HashRequest{BaseLayer: 4, Length: 2}).Answer(nil); ok {
		t.Errorf("of a file of one piece: %d hashes", len(got))
	}
}

func FuzzHashRequest(f *testing.F) {
	f.Add(uint32(4), uint32(0), uint32(8), uint32(2), 5)
	f.Add(uint32(4), uint32(6), uint32(2), uint32(2), 8)
	f.Fuzz(func(t *testing.T, base, index, length, proof uint32, pieces int) {
		if pieces < 0 || pieces > 1024 {
			return
		}
		layer := make([]byte, 32*pieces)
		for i := range pieces {
			layer[32*i], layer[32*i+1] = byte(i), byte(i>>8)
		}
		r := bittorrent.HashRequest{BaseLayer: base, Index: index, Length: length, ProofLayers: proof}
		got, ok := r.Answer(layer)
		if !ok {
			return
		}
		if len(got) > 512+32 {
			t.Errorf("%d hashes", len(got))
		}
		nodes := make([]htlcdash.Root, pieces)
		for i := range nodes {
			copy(nodes[i][:], layer[32*i:])
		}
		span := bits.Len32(length) - 1
		height := bits.Len(uint(pieces - 1))
		if whole := int(proof) == height-1 || span == height; whole && leads(r, got) != htlcdash.FoldLayer(nodes, 16, 1) {
			t.Errorf("%+v does not lead to the root", r)
		}
	})
}

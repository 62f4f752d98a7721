package bittorrent_test

import (
	"bytes"
	"errors"
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

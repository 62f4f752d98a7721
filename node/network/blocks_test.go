package network_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/chaincfg"

	"htlcdash/node/network"
)

func TestBlockLogForgetsAHalfBlock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blocks")
	block := chaincfg.SimNetParams.GenesisBlock
	l, err := network.OpenBlockLog(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := network.AddBlock(l, block, block, block); err != nil {
		t.Fatal(err)
	}
	whole := int64(3 * block.SerializeSize())
	if err := os.Truncate(file, whole-7); err != nil {
		t.Fatal(err)
	}
	if l, err = network.OpenBlockLog(file); err != nil || network.BlockHeight(l) != 2 {
		t.Fatalf("height %d, %v", network.BlockHeight(l), err)
	}
	if err := network.AddBlock(l, block); err != nil {
		t.Fatal(err)
	}
	if l, err = network.OpenBlockLog(file); err != nil || network.BlockHeight(l) != 3 {
		t.Errorf("height %d, %v", network.BlockHeight(l), err)
	}
	if st, err := os.Stat(file); err != nil || st.Size() != whole {
		t.Errorf("file: %v, %v", st, err)
	}
}

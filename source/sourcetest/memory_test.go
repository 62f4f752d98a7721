package sourcetest_test

import (
	"testing"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/sourcetest"
)

func TestMemory(t *testing.T) {
	sourcetest.Run(t, func(_ *testing.T, blobs map[htlcdash.Blob][]byte) source.Source { return sourcetest.NewMemory(blobs) })
}

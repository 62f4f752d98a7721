//go:build unix

package lock_test

import (
	"errors"
	"path/filepath"
	"testing"

	"htlcdash/internal/lock"
)

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	for range 2 {
		held, err := lock.File(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock.File(name); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("the second gets %v", err)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lock.File(filepath.Join(name, "below")); err == nil || errors.Is(err, lock.ErrHeld) {
		t.Errorf("a file that cannot be: %v", err)
	}
}

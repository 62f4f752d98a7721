//go:build unix

package ledger

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile takes a lock that the kernel gives back when the process ends,
// however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w (%w): stop the other program, or give this one a ledger of its own", ErrLocked, err)
	}
	return f, nil
}

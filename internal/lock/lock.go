// Package lock keeps a second process off files that one at a time may have
// open. Where the system has no flock it keeps nobody off.
package lock

import (
	"errors"
	"os"
)

// ErrHeld means that another process, or another part of this one, has the
// lock.
var ErrHeld = errors.New("another program has it open")

// File takes the lock on the file called name, which it makes if need be. The
// lock is given back by Close, or by the kernel when the process ends, however
// it ends. If it is taken the error is [ErrHeld].
func File(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

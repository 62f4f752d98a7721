//go:build unix

package main

import (
	"os"
	"syscall"
)

// lock holds f for this process until it is closed.
func lock(f *os.File) error {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return errLocked
	}
	return nil
}

package publish

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile fails if another process holds f.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// syncFS writes out the whole file system of f: one call in place of one for
// each of thousands of sealed files.
func syncFS(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

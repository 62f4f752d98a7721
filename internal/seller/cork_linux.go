package seller

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setCork does its best: without it all works as well, and slower.
func setCork(c syscall.RawConn, on bool) {
	value := 0
	if on {
		value = 1
	}
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, value) })
}

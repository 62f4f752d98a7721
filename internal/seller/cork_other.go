//go:build !linux

package seller

import "syscall"

func setCork(syscall.RawConn, bool) {}

//go:build unix && !linux

package network

import "syscall"

// apart gives a child its own process group. Nothing ends it should we be
// killed: only Linux does that.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

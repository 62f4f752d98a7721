package network

import "syscall"

// apart gives a child its own process group and has the kernel kill it when we
// die.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

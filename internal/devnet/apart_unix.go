//go:build unix

package devnet

import (
	"os/exec"
	"syscall"
)

// apart keeps a Ctrl-C in the terminal from the network, which we stop in
// order.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

package bench

import (
	"os/exec"
	"syscall"
)

// apart keeps a Ctrl-C at the terminal from the child, since this process
// stops it in order, and has the kernel kill it if this process is killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

package town

import (
	"os/exec"
	"syscall"
)

// apart keeps the terminal's signals from a program, and ends it with this one.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

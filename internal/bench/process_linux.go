package bench

import (
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// threadClock says what threadTime tells.
const threadClock = "CPU time of one thread"

// threadTime is a clock that goes only while the calling thread does. The caller
// has locked its goroutine to the thread.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("bench: " + err.Error()) // Linux has had it for twenty years
	}
	return time.Duration(t.Nano())
}

// apart keeps a Ctrl-C at the terminal from the child, since this process
// stops it in order, and has the kernel kill it if this process is killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

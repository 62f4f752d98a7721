package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A process is a child in a process group of its own, so that a Ctrl-C in the
// terminal reaches only us, and it dies when we die.
type process struct {
	name    string // for messages: "btcd", "lnd viewer"
	owner   string // of the network: "chain", "viewer"
	logFile string
	cmd     *exec.Cmd
	wanted  atomic.Bool   // its end is our doing
	exited  chan struct{} // closed after the end
}

// spawn starts argv for owner, its output appended to logFile.
func spawn(owner, name, logFile string, argv ...string) (*process, error) {
	out, err := openLog(logFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p := &process{owner: owner, name: name, logFile: logFile, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), EnvFastScrypt+"=1")
	p.cmd.SysProcAttr = apart()
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the *thread* that started the child
		// ends. This one stays until the child is gone.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // told by ProcessState
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// maxLog is how long a log may be, in bytes, before the next start puts it aside.
const maxLog = 4 << 20

func openLog(file string) (*os.File, error) {
	if st, err := os.Stat(file); err == nil && st.Size() > maxLog {
		if err := os.Rename(file, file+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

// alive reports whether p runs. It holds for nil too.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// during returns a context that ends, with the reason, when p does.
func (p *process) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.exited:
			cancel(p.obituary())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// obituary says how p ended and what it said last.
func (p *process) obituary() error {
	how := "ended with " + p.cmd.ProcessState.String()
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		how = fmt.Sprintf("was killed by signal %d (%v)", ws.Signal(), ws.Signal())
	}
	text := fmt.Sprintf("%s %s; log: %s", p.name, how, p.logFile)
	if last := tail(p.logFile, 5); last != "" {
		text += "; its last lines:\n" + last
	}
	return errors.New(text)
}

// stop asks p to end and kills it when it has not after grace.
func (p *process) stop(grace time.Duration) {
	if !p.alive() {
		return
	}
	p.wanted.Store(true)
	_ = p.cmd.Process.Signal(os.Interrupt) // gone already: the wait below is short
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.kill()
	}
}

// kill ends p without giving it a chance.
func (p *process) kill() {
	if !p.alive() {
		return
	}
	p.wanted.Store(true)
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already: as wished
	<-p.exited
}

// tail returns the last lines of a file, or nothing.
func tail(file string, lines int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 8 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-most), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, most))
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// until asks every 20 ms until ask returns nil. When ctx ends first, the error
// says why and what was still missing.
func until(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

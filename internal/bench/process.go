package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a server that runs, with its log in a file.
type process struct {
	name string
	url  string // where it answers
	log  string // file
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// launch starts a server, and returns when ready answers 200 below url.
func (s *stage) launch(ctx context.Context, name, url, ready, program string, args ...string) (*process, error) {
	p := &process{name: name, url: url, log: filepath.Join(s.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	apart(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait()
		_ = log.Close()
		close(p.done)
	}()
	s.running = append(s.running, p)
	if err := p.await(ctx, ready); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *process) await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := get(ctx, p.url+path)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.name, err, tail(p.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// stop asks p to end, and makes it. It may be called again.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func tail(file string) string {
	b, _ := os.ReadFile(file)
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-3):], []byte("; ")))
}

// memory is what p holds now and held at most, in bytes.
func (p *process) memory() (now, peak float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	field := func(name string) float64 {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == name {
				kib, _ := strconv.ParseFloat(f[1], 64)
				return kib * 1024
			}
		}
		return 0
	}
	return field("VmRSS:"), field("VmHWM:"), nil
}

// ticks of a second in which /proc counts: USER_HZ, 100 on Linux everywhere.
const ticks = 100

// cpu is the processor time of p and its children, in seconds.
func (p *process) cpu() (float64, error) { return cpuOf(p.cmd.Process.Pid) }

func cpuOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in brackets, which may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	total := (user + system) / ticks
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return total, nil // a kernel without this list: only nginx has children
	}
	for c := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(c)
		if err != nil {
			return 0, err
		}
		more, err := cpuOf(child)
		if err != nil {
			return 0, err
		}
		total += more
	}
	return total, nil
}

// busy is the processor time of p's threads, without its children's. It is finer
// than cpu where the kernel counts it.
func (p *process) busy() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		seconds, err := p.cpu()
		return time.Duration(seconds * float64(time.Second)), err
	}
	var sum int64
	for _, t := range tasks {
		b, _ := os.ReadFile(t) // a thread may have ended
		ran, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(ran, 10, 64)
		sum += n
	}
	return time.Duration(sum), nil
}

// selfBusy is the processor time of this process.
func selfBusy() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for no argument of ours
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// lookPath finds a program also where an administrator's lie.
func lookPath(program string) (string, error) {
	if file, err := exec.LookPath(program); err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if file, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w", program, exec.ErrNotFound)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

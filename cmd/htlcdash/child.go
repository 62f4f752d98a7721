package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a child may take to end in order.
const stopGrace = 10 * time.Second

// A child is another process of this program with a log file of its own.
type child struct {
	name string
	log  string        // file
	done chan struct{} // closed when it has ended
	err  error         // how; read it after done
}

// startChild runs this program with args until ctx is done, when the child is
// asked to end and, if it will not, is killed. It cannot outlive this process.
func startChild(ctx context.Context, name, folder string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &child{name: name, log: filepath.Join(folder, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	apart(cmd)
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), log.Close())
	}
	go func() {
		c.err = cmd.Wait()
		_ = log.Close()
		close(c.done)
	}()
	return c, nil
}

// ended says, for people, that the child ended though nobody asked it to.
func (c *child) ended() error {
	how := "it stopped"
	if c.err != nil {
		how = c.err.Error()
	}
	last := ""
	if b, err := os.ReadFile(c.log); err == nil {
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		last = strings.TrimSpace(string(lines[len(lines)-1]))
	}
	if last != "" {
		last = "\n  its last line: " + last
	}
	return fmt.Errorf("the %s ended (%s), its log is %s%s", c.name, how, c.log, last)
}

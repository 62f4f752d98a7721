//go:build !linux

package bench

import "os/exec"

func apart(*exec.Cmd) {}

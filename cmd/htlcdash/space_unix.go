//go:build linux || darwin

package main

import (
	"fmt"
	"syscall"

	"htlcdash/internal/config"
)

// freeSpace is what this user may still write to the disk of folder.
func freeSpace(folder string) (config.Bytes, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, fmt.Errorf("%s: %w", folder, err)
	}
	return config.Bytes(s.Bavail) * config.Bytes(s.Bsize), nil
}

//go:build !linux && !darwin

package main

import (
	"errors"

	"htlcdash/internal/config"
)

func freeSpace(string) (config.Bytes, error) { return 0, errors.ErrUnsupported }

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"htlcdash/internal/config"
)

// secretFile reads 32 secret bytes, written as hexadecimal digits. If there is
// no such file it makes one of fresh bytes, private to the user; made tells.
// Errors never quote the file.
func secretFile(name config.Path) (secret [32]byte, made bool, err error) {
	path := string(name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret, err = makeSecret(path)
		return secret, err == nil, err
	}
	if err != nil {
		return secret, false, err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return secret, false, fmt.Errorf("%s can be read by others: chmod 600 %s", path, path)
	}
	text := strings.TrimSpace(string(b))
	if n, err := hex.Decode(secret[:], []byte(text[:min(len(text), 64)])); err != nil || n != 32 || len(text) != 64 {
		return [32]byte{}, false, fmt.Errorf("%s does not hold 64 hexadecimal digits", path)
	}
	return secret, false, nil
}

// makeSecret writes a whole file or none, and never over another.
func makeSecret(path string) (secret [32]byte, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return secret, err
	}
	rand.Read(secret[:])
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // mode 0600
	if err != nil {
		return secret, err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%x\n", secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return secret, err
	}
	return secret, os.Link(f.Name(), path)
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/internal/config"
)

func TestSecretFile(t *testing.T) {
	name := config.Path(filepath.Join(t.TempDir(), "new", "secret"))
	first, made, err := secretFile(name)
	if err != nil || !made {
		t.Fatalf("first use: made %v, %v", made, err)
	}
	if info, err := os.Stat(string(name)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	again, made, err := secretFile(name)
	if err != nil || made || again != first {
		t.Errorf("second use gives another secret, or %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(string(name)), ".secret-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSecretFileRefuses(t *testing.T) {
	good := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"readable by others", good, 0o644, "chmod 600"},
		{"too short", good[:62], 0o600, "64 hexadecimal digits"},
		{"too long", good + "ab", 0o600, "64 hexadecimal digits"},
		{"not hexadecimal", "zz" + good[2:], 0o600, "64 hexadecimal digits"},
		{"empty", "", 0o600, "64 hexadecimal digits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(name, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			secret, _, err := secretFile(config.Path(name))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
			if secret != [32]byte{} {
				t.Error("a secret comes with the error")
			}
		})
	}
}

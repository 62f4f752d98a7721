package network_test

import (
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/node/network"
)

func TestObituary(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"killed", "echo last words; kill -9 $$", "was killed by signal 9 (killed)"},
		{"failed", "echo last words; exit 3", "ended with exit status 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			p, err := network.Spawn("viewer", "lnd viewer", log, "/bin/sh", "-c", tt.script)
			if err != nil {
				t.Fatal(err)
			}
			text := p.Wait().Error()
			for _, want := range []string{"lnd viewer " + tt.want, log, "last words"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q says nothing of %q", text, want)
				}
			}
		})
	}
}

func TestSpawnOfNothing(t *testing.T) {
	_, err := network.Spawn("chain", "btcd", filepath.Join(t.TempDir(), "log"), "/nowhere/btcd")
	if err == nil || !strings.Contains(err.Error(), "start btcd") {
		t.Errorf("error is %v", err)
	}
}

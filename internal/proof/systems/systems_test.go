package systems_test

import (
	"strings"
	"testing"

	"htlcdash/internal/proof/systems"
)

func TestNamed(t *testing.T) {
	var names []string
	for _, sys := range systems.All() {
		names = append(names, sys.Name())
	}
	got, err := systems.Named(names)
	if err != nil || len(got) != len(names) {
		t.Fatalf("%d of %d systems, %v", len(got), len(names), err)
	}
	for i, sys := range got {
		if sys.Name() != names[i] {
			t.Errorf("%s is %s", names[i], sys.Name())
		}
	}
	if _, err := systems.Named([]string{"vole-80", "vole-7"}); err == nil || !strings.Contains(err.Error(), `"vole-7" is not known: want one of vole-80, `) {
		t.Errorf("an unknown name: %v", err)
	}
}

//go:build !unix

package ledger

import (
	"fmt"
	"os"
)

// lockFile takes no lock where flock does not exist: keep to one program.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return f, nil
}

//go:build !linux

package dir

import "os"

func (d *Dir) open(name string) (*os.File, error) { return d.root.Open(name) }

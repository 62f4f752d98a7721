//go:build !unix

package lock

import "os"

func take(*os.File) error { return nil }

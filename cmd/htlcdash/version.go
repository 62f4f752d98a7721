package main

import (
	"fmt"
	"runtime"
)

// version is set by the linker, see Makefile.
var version = "development"

type versionCommand struct{}

func (versionCommand) Help() string { return "Example: htlcdash version" }

func (versionCommand) Run(t terminal) error {
	_, err := fmt.Fprintf(t.out, "htlcdash %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

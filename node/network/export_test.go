package network

import "time"

// What the tests of this package open.
var (
	DialNode     = dialNode
	OpenFolder   = openFolder
	OpenBlockLog = openBlockLog
	Spawn        = spawn
)

// SetStartPatience changes it, and returns what undoes that.
func SetStartPatience(d time.Duration) (undo func()) {
	old := startPatience
	startPatience = d
	return func() { startPatience = old }
}

func (f *folder) Close()          { f.close() }
func (f *folder) Complete() error { return f.complete() }
func (f *folder) Fresh() bool     { return !f.state.Complete }
func (f *folder) NodePorts(name string) Ports {
	return f.state.Nodes[name]
}

var (
	BlockHeight = (*blockLog).height
	AddBlock    = (*blockLog).append
)

func (p *process) Wait() error { <-p.exited; return p.obituary() }

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Names in the data folder:
//
//	network.json  what the folder is, and whether it was ever ready
//	lock          held by the run that uses it
//	chain/        btcd
//	nodes/NAME/   one lnd each
const (
	stateFile = "network.json"
	lockFile  = "lock"
	logName   = "network.log" // of the program that started us
	chainName = "chain"
	nodesName = "nodes"
)

// Ports are addresses on loopback, kept from run to run.
type Ports struct {
	P2P  string `json:"p2p"`
	RPC  string `json:"rpc"`
	REST string `json:"rest"` // the chain has none
}

// state is network.json.
type state struct {
	Version  int              `json:"version"`
	Complete bool             `json:"complete"` // it was ready once
	Spec     Spec             `json:"spec"`
	Chain    Ports            `json:"chain"`
	Nodes    map[string]Ports `json:"nodes"`
}

const stateVersion = 1

// A folder is a locked data folder.
type folder struct {
	dir   string
	lock  *os.File
	state state
}

// openFolder locks dir and finds out what is in it: a network that was ready
// once, or nothing. What a broken first run left is removed, but only if it is
// surely ours.
func openFolder(dir string, want Spec) (_ *folder, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f := &folder{dir: dir}
	if f.lock, err = lock(filepath.Join(dir, lockFile)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	b, err := os.ReadFile(f.path(stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, f.begin(want)
	case err != nil:
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := json.Unmarshal(b, &f.state); err != nil || f.state.Version != stateVersion {
		return nil, f.broken(fmt.Sprintf("%s is not what this program writes", stateFile))
	}
	if !f.state.Complete {
		return f, f.again(want)
	}
	return f, f.resume(want)
}

func (f *folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

func (f *folder) nodeDir(name string) string { return f.path(nodesName, name) }

func (f *folder) broken(why string) error {
	return fmt.Errorf("data folder %s is broken: %s; remove it to start anew (a private network holds no real money)", f.dir, why)
}

// begin claims an empty folder.
func (f *folder) begin(want Spec) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, e := range entries {
		ours := e.Name() == lockFile || e.Name() == stateFile+".new" || strings.HasPrefix(e.Name(), logName)
		if !ours {
			return fmt.Errorf("data folder %s holds %s and no %s: it is not ours; give an empty one", f.dir, e.Name(), stateFile)
		}
	}
	if len(want.Nodes) == 0 {
		want = Default()
	}
	if err := want.check(); err != nil {
		return err
	}
	f.state = state{Version: stateVersion, Spec: want, Nodes: map[string]Ports{}}
	return f.assign()
}

// again begins anew where the first run never came to its end.
func (f *folder) again(want Spec) error {
	for _, name := range []string{chainName, nodesName, stateFile} {
		if err := os.RemoveAll(f.path(name)); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
	}
	return f.begin(want)
}

// resume checks that all is still there.
func (f *folder) resume(want Spec) error {
	if err := f.state.Spec.sameShape(want); err != nil {
		return fmt.Errorf("data folder %s was made for another network: %w; give another folder, or remove this one", f.dir, err)
	}
	dirs := []string{f.path(chainName, "data")}
	for i, n := range f.state.Spec.Nodes {
		dirs = append(dirs, filepath.Join(f.nodeDir(n.Name), "data", "chain", "bitcoin", "simnet"))
		if j := slices.IndexFunc(want.Nodes, func(o NodeSpec) bool { return o.Name == n.Name }); j >= 0 {
			f.state.Spec.Nodes[i] = want.Nodes[j]
		}
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); err != nil {
			return f.broken(strings.TrimPrefix(d, f.dir+"/") + " is missing")
		}
	}
	return f.assign()
}

// assign gives everybody ports that are free now, those of the last run if they
// are, and writes the state.
func (f *folder) assign() (err error) {
	if f.state.Chain, err = f.ports(f.state.Chain); err != nil {
		return err
	}
	for _, n := range f.state.Spec.Nodes {
		if f.state.Nodes[n.Name], err = f.ports(f.state.Nodes[n.Name]); err != nil {
			return err
		}
	}
	return f.save()
}

// ports returns p with what is not free replaced.
func (f *folder) ports(p Ports) (Ports, error) {
	for _, address := range []*string{&p.P2P, &p.RPC, &p.REST} {
		if *address != "" && free(*address) {
			continue
		}
		var err error
		if *address, err = f.freePort(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// admit checks that a node may be added, finds it ports, and removes what an
// earlier attempt left.
func (f *folder) admit(spec NodeSpec) (err error) {
	s := f.state.Spec
	s.Nodes = append(slices.Clone(s.Nodes), spec)
	if err := s.check(); err != nil {
		return err
	}
	if f.state.Nodes[spec.Name], err = f.ports(Ports{}); err != nil {
		return err
	}
	return os.RemoveAll(f.nodeDir(spec.Name))
}

// keep makes an admitted node part of the folder.
func (f *folder) keep(spec NodeSpec) error {
	f.state.Spec.Nodes = append(f.state.Spec.Nodes, spec)
	return f.save()
}

// complete marks the folder as one that a later run may use.
func (f *folder) complete() error {
	f.state.Complete = true
	return f.save()
}

// save replaces network.json in one step.
func (f *folder) save() error {
	b, err := json.MarshalIndent(f.state, "", "  ")
	if err != nil {
		return err
	}
	temp := f.path(stateFile + ".new")
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := os.Rename(temp, f.path(stateFile)); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

func (f *folder) close() { f.lock.Close() }

// lock takes the file, which the kernel gives back however we end.
func lock(file string) (*os.File, error) {
	l, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(file)
		l.Close()
		return nil, fmt.Errorf("data folder %s is in use by process %s", filepath.Dir(file), strings.TrimSpace(string(pid)))
	}
	if err := l.Truncate(0); err != nil {
		l.Close()
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if _, err := l.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		l.Close()
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return l, nil
}

// freePort finds an address that nobody in the folder has. It lies below the
// range from which the kernel takes ports for outgoing connections, so that it
// is likely still free next time.
func (f *folder) freePort() (string, error) {
	taken := []Ports{f.state.Chain}
	taken = slices.AppendSeq(taken, maps.Values(f.state.Nodes))
	for range 1000 {
		a := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		has := func(p Ports) bool { return p.P2P == a || p.RPC == a || p.REST == a }
		if !slices.ContainsFunc(taken, has) && free(a) {
			return a, nil
		}
	}
	return "", errors.New("no free port between 20000 and 29999 on 127.0.0.1")
}

func free(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

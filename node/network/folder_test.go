package network_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/node/network"
)

// made makes a folder as a network leaves it that was ready once.
func made(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	f, err := network.OpenFolder(dir, network.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir, "chain", "data")
	for _, n := range network.Default().Nodes {
		mkdir(t, dir, "nodes", n.Name, "data", "chain", "bitcoin", "simnet")
	}
	if err := f.Complete(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	return dir
}

func mkdir(t *testing.T, parts ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(parts...), 0o700); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, text string, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolderRefuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, dir string)
		spec network.Spec
		want string
	}{
		{name: "what is not ours", want: "is not ours", do: func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "network.json"))
			write(t, "dear diary", dir, "diary.txt")
		}},
		{name: "a state that is no JSON", want: "broken", do: func(t *testing.T, dir string) {
			write(t, "{", dir, "network.json")
		}},
		{name: "a state of another version", want: "broken", do: func(t *testing.T, dir string) {
			write(t, `{"version":99,"complete":true}`, dir, "network.json")
		}},
		{name: "a missing chain", want: "chain/data is missing", do: func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "chain"))
		}},
		{name: "a missing node", want: "nodes/router", do: func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "nodes", "router"))
		}},
		{name: "another network", want: `no node "bob"`, spec: network.Spec{Nodes: []network.NodeSpec{{Name: "bob"}}}},
		{name: "another database", want: `"sqlite", not "bolt"`, spec: network.Spec{Nodes: []network.NodeSpec{{Name: "viewer", DB: "bolt"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := made(t)
			if tt.do != nil {
				tt.do(t, dir)
			}
			_, err := network.OpenFolder(dir, tt.spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestFolderIsForOneAtATime(t *testing.T) {
	dir := t.TempDir()
	f, err := network.OpenFolder(dir, network.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.OpenFolder(dir, network.Spec{}); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("error is %v", err)
	}
	f.Close()
	again, err := network.OpenFolder(dir, network.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestHalfMadeFolderIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	f, err := network.OpenFolder(dir, network.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir, "nodes", "viewer", "data")
	write(t, "said the starter", dir, "network.log")
	f.Close()
	f, err = network.OpenFolder(dir, network.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := os.Stat(filepath.Join(dir, "nodes")); !os.IsNotExist(err) || !f.Fresh() {
		t.Errorf("the first attempt is still there: %v", err)
	}
}

func TestPortsStayUnlessTaken(t *testing.T) {
	dir := made(t)
	open := func() (viewer, router network.Ports) {
		f, err := network.OpenFolder(dir, network.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Fresh() {
			t.Error("the folder was ready once")
		}
		return f.NodePorts("viewer"), f.NodePorts("router")
	}
	viewer, router := open()
	l, err := net.Listen("tcp", viewer.REST)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	viewer2, router2 := open()
	if router2 != router || viewer2.P2P != viewer.P2P {
		t.Errorf("ports went from %v to %v and from %v to %v", viewer, viewer2, router, router2)
	}
	if viewer2.REST == viewer.REST {
		t.Errorf("port %s is taken, but given again", viewer.REST)
	}
}

func TestSpecIsChecked(t *testing.T) {
	two := []network.NodeSpec{{Name: "a"}, {Name: "b"}}
	tests := []struct {
		name string
		spec network.Spec
		want string
	}{
		{"twice", network.Spec{Nodes: []network.NodeSpec{{Name: "a"}, {Name: "a"}}}, "twice"},
		{"a path as a name", network.Spec{Nodes: []network.NodeSpec{{Name: "../a"}}}, "a name is"},
		{"the chain's name", network.Spec{Nodes: []network.NodeSpec{{Name: "chain"}}}, "a name is"},
		{"a database", network.Spec{Nodes: []network.NodeSpec{{Name: "a", DB: "etcd"}}}, "not bolt or sqlite"},
		{"debt", network.Spec{Nodes: []network.NodeSpec{{Name: "a", Fund: -1}}}, "less than nothing"},
		{"a channel to nobody", network.Spec{Nodes: two, Channels: []network.ChannelSpec{{From: "a", To: "c"}}}, "two nodes"},
		{"a channel to itself", network.Spec{Nodes: two, Channels: []network.ChannelSpec{{From: "a", To: "a"}}}, "two nodes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := network.OpenFolder(t.TempDir(), tt.spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the tests start this binary as a child: then it is a command
// of a few words instead of the tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "-child" {
		os.Exit(playChild(os.Args[2]))
	}
	os.Exit(m.Run())
}

func playChild(part string) int {
	switch part {
	case "fails":
		os.Stderr.WriteString("first\nno more coal\n")
		return 3
	default: // waits until it is stopped
		_, _ = io.Copy(io.Discard, os.Stdin)
		select {}
	}
}

func TestChildThatFails(t *testing.T) {
	c, err := startChild(t.Context(), "engine", t.TempDir(), "-child", "fails")
	if err != nil {
		t.Fatal(err)
	}
	never := func(context.Context) error { return errors.New("not yet") }
	err = c.await(t.Context(), never)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"the engine ended", "exit status 3", "no more coal", c.log} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %q", want, err)
		}
	}
}

func TestChildEndsWithUs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := startChild(ctx, "engine", t.TempDir(), "-child", "waits")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.await(ctx, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	cancel()
	<-c.done
}

func TestProgressPlain(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.begin("laying rails")
	p.at("%d of 10", 3) // too soon to be told
	p.end("10 km")
	p.begin("building the bridge")
	p.fail()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || lines[0] != "... laying rails" || !strings.HasPrefix(lines[1], " ok laying rails (") || !strings.HasSuffix(lines[1], ", 10 km") {
		t.Errorf("%q", lines)
	}
}

func TestDemoNeedsAFilm(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, _, err := call(t, "demo"); err == nil || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("error is %v", err)
	}
	if _, _, err := call(t, "demo", "--media", "none.mp4"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestFreeAddress(t *testing.T) {
	l := door(t)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	got, err := freeAddress(port, nil)
	if err != nil || got == l.Addr().String() {
		t.Errorf("a taken port gives %s, %v", got, err)
	}
}

func TestFileMark(t *testing.T) {
	name := filepath.Join(t.TempDir(), "film.mp4")
	marks := map[string]bool{}
	for _, text := range []string{"a", "ab"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mark, err := fileMark(name)
		if err != nil {
			t.Fatal(err)
		}
		marks[mark] = true
	}
	if len(marks) != 2 {
		t.Error("another film has the same mark")
	}
}

func TestTitleName(t *testing.T) {
	for source, want := range map[string]string{
		"/films/Big Buck (1).mp4":   "big-buck-1",
		"film.mpd":                  "",
		"/dash/Sintel/Manifest.mpd": "sintel",
		"/dash/Sintel/":             "sintel",
		"Ünter.webm":                "ünter",
		"...":                       "",
	} {
		if got := titleName(source); got != want {
			t.Errorf("%q gives %q, want %q", source, got, want)
		}
	}
}

package devnet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
)

// The test binary plays htlcdash-node when this names a scene.
const sceneVariable = "DEVNET_TEST_SCENE"

func TestMain(m *testing.M) {
	if scene := os.Getenv(sceneVariable); scene != "" {
		play(scene)
		return
	}
	os.Exit(m.Run())
}

const ready = `{"event":"ready","fresh":true,"chain":{"p2p":"127.0.0.1:1","height":457,"pid":7},` +
	`"nodes":[{"name":"viewer","id":"02aa","rest":"https://127.0.0.1:2","grpc":"127.0.0.1:3","p2p":"127.0.0.1:4",` +
	`"tls_cert":"/c","admin_macaroon":"/m","log":"/l","pid":8}],` +
	`"channels":[{"point":"ab:0","id":"496979255820288","from":"viewer","to":"provider","capacity_sat":10,"local_sat":9,"remote_sat":1,"active":true}]}`

func play(scene string) {
	in := bufio.NewScanner(os.Stdin)
	switch scene {
	case "fails":
		fmt.Println(`{"event":"failed","text":"data folder /x is in use by process 5"}`)
		os.Exit(1)
	case "crashes":
		fmt.Fprintln(os.Stderr, "panic: out of luck")
		os.Exit(2)
	case "babbles":
		fmt.Println("this is no JSON")
	case "hangs":
		in.Scan()
	case "answers late": // the second command first
		fmt.Println(`{"event":"progress","step":"chain","text":"mined 50 blocks","done":0.5}`)
		fmt.Println(ready)
		in.Scan()
		in.Scan()
		fmt.Println(`{"event":"answer","id":2,"error":"node \"bob\": not of this network"}`)
		fmt.Println(`{"event":"answer","id":99}`)
		fmt.Println(`{"event":"answer","id":1,"result":{"height":460}}`)
		in.Scan()
	case "loses a node":
		fmt.Println(ready)
		fmt.Println(`{"event":"died","name":"viewer","text":"killed"}`)
		in.Scan()
		fmt.Println(`{"event":"failed","text":"btcd was killed"}`)
		os.Exit(1)
	}
}

func config(t *testing.T, scene string) devnet.Config {
	t.Helper()
	t.Setenv(sceneVariable, scene)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return devnet.Config{Dir: t.TempDir(), Binary: self}
}

func TestStartSaysWhyNot(t *testing.T) {
	tests := map[string]string{
		"fails":   "data folder /x is in use by process 5",
		"crashes": "panic: out of luck",
		"babbles": "ended",
	}
	for scene, want := range tests {
		t.Run(scene, func(t *testing.T) {
			_, err := devnet.Start(t.Context(), config(t, scene))
			if !errors.Is(err, devnet.ErrClosed) || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := devnet.Start(ctx, config(t, "hangs")); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestBinaryIsMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htlcdash-node")
	t.Setenv("HTLCDASH_NODE", file)
	if found, err := devnet.Find(); found != file || err != nil {
		t.Errorf("Find gives %q, %v", found, err)
	}
	if _, err := devnet.Start(t.Context(), devnet.Config{Dir: t.TempDir()}); !errors.Is(err, devnet.ErrMissing) {
		t.Errorf("error is %v", err)
	}
	t.Setenv("HTLCDASH_NODE", "")
	t.Chdir(t.TempDir())
	if _, err := devnet.Find(); !errors.Is(err, devnet.ErrMissing) {
		t.Errorf("error is %v", err)
	}
}

func TestAnswersFindTheirQuestions(t *testing.T) {
	c := config(t, "answers late")
	var progress []devnet.Progress
	c.Progress = func(p devnet.Progress) { progress = append(progress, p) }
	n, err := devnet.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(progress) != 1 || progress[0] != (devnet.Progress{Step: "chain", Text: "mined 50 blocks", Done: 0.5}) {
		t.Errorf("progress: %v", progress)
	}
	want := devnet.Channel{
		Point: "ab:0", ID: 496979255820288, From: "viewer", To: "provider",
		Capacity: 10 * lightning.Sat, Local: 9 * lightning.Sat, Remote: 1 * lightning.Sat, Active: true,
	}
	if got := n.Initial().Channels[0]; got != want {
		t.Errorf("channel: %+v", got)
	}
	if v := n.Node("viewer"); v.REST != "https://127.0.0.1:2" || v.MacaroonFile != "/m" || v.PID != 8 {
		t.Errorf("viewer: %+v", v)
	}
	mined := make(chan error)
	asked := make(chan struct{})
	go func() {
		close(asked)
		height, err := n.Mine(t.Context(), 3)
		if err == nil && height != 460 {
			err = fmt.Errorf("height %d", height)
		}
		mined <- err
	}()
	<-asked
	// Whichever of the two is asked first, one gets the error, one the height.
	killErr, mineErr := n.Kill(t.Context(), "bob"), <-mined
	if errText := fmt.Sprint(killErr, mineErr); strings.Count(errText, "not of this network") != 1 {
		t.Errorf("answers: %v and %v", killErr, mineErr)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Kill(t.Context(), "bob"); !errors.Is(err, devnet.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDeaths(t *testing.T) {
	c := config(t, "loses a node")
	deaths := make(chan devnet.Death, 1)
	c.Died = func(d devnet.Death) { deaths <- d }
	n, err := devnet.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if d := <-deaths; d != (devnet.Death{Name: "viewer", Text: "killed"}) {
		t.Errorf("death: %+v", d)
	}
	if _, err := n.Mine(t.Context(), 1); !errors.Is(err, devnet.ErrClosed) || !strings.Contains(err.Error(), "btcd was killed") {
		t.Errorf("mine: %v", err)
	}
	<-n.Done()
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"htlcdash/agent"
	"htlcdash/internal/config"
	"htlcdash/internal/player"
	"htlcdash/internal/words"
)

// nasty is what a stranger may call anything: it would clear the screen, set the
// clipboard, turn the direction of the text and hide it, in the three ways in which
// a terminal can be told; and it has words in it that should stay as they are.
const nasty = "Кино 映画\x1b[2J\x1b]52;c;cHdu\x07\u009b8m\u202e\r\x9b2J"

// checkHarmless wants text without controls, in which the words are.
func checkHarmless(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && r != '\t' && r != ' ' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			t.Errorf("%s has %q in it: %q", what, r, text)
			return
		}
	}
	if !strings.Contains(text, "Кино 映画") {
		t.Errorf("%s spoils words: %q", what, text)
	}
}

func TestStrangersWordsAreHarmless(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Run("progress", func(t *testing.T) {
		for _, live := range []bool{false, true} {
			var out bytes.Buffer
			p := newProgress(&out)
			p.live = live
			p.begin("buying " + nasty)
			p.told = time.Now().Add(-time.Hour)
			p.at("%s", nasty)
			p.end(nasty)
			checkHarmless(t, "progress", strings.NewReplacer("\r\x1b[K", "\n").Replace(out.String()))
		}
	})
	t.Run("lines of play", func(t *testing.T) {
		var out bytes.Buffer
		p := playLines{w: &out}
		p.tell(player.Event{What: player.Segment, ID: nasty})
		p.tell(player.Event{What: player.Retry, ID: nasty, Why: nasty, Kind: agent.Audio})
		p.tell(player.Event{What: player.Tick, At: time.Minute, Buffers: []time.Duration{0}, Left: agent.NoLimit})
		checkHarmless(t, "play", out.String())
	})
	t.Run("logs", func(t *testing.T) {
		for _, level := range []string{"debug", "info"} {
			var out bytes.Buffer
			log := newLogger(config.Log{Level: level, Format: "text"}, words.NewWriter(&out))
			log.With("title", nasty).WithGroup("g").Warn(nasty, "err", errors.New(nasty), nasty, slog.GroupValue(slog.String("x", nasty)))
			checkHarmless(t, "the log", out.String())
		}
	})
	t.Run("errors", func(t *testing.T) {
		var out bytes.Buffer
		w := words.NewWriter(&out)
		w.Write([]byte(failure(errors.New(nasty+"\npaid 5 sat"), true)))
		checkHarmless(t, "an error", out.String())
		if !strings.Contains(out.String(), "\n  paid") {
			t.Errorf("a stranger's line begins as ours do: %q", out.String())
		}
	})
	t.Run("commands", func(t *testing.T) {
		// Whatever a command writes to people goes through one place.
		var out, log bytes.Buffer
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(nasty, "/", "")), []byte("film"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), []string{"files", dir}, strings.NewReader(""), &out, &log); err != nil {
			t.Fatal(err)
		}
		checkHarmless(t, "a table", out.String())
		k := newTerminal(nil, &out, &log)
		out.Reset()
		for _, w := range []io.Writer{k.out, k.err} {
			fmt.Fprintln(w, nasty)
		}
		checkHarmless(t, "what a command writes", out.String())
		checkHarmless(t, "what a command tells", log.String())
	})
}

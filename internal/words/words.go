// Package words makes what strangers wrote fit for a terminal, which obeys some
// characters: names of titles and files, aliases, errors that a server sent.
//
// What obeys nothing stays as it is, in all scripts. Each other character becomes
// a question mark.
package words

import (
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// shown is what stands for a character: itself, or a question mark for controls
// (C0 and C1), what changes the direction of a text, what is not assigned, and what
// is no UTF-8.
func shown(r rune) rune {
	const nonJoiner, joiner = '\u200c', '\u200d' // Persian and Hindi need them, and so do emoji
	switch {
	case r == utf8.RuneError:
		return '?'
	case unicode.IsPrint(r), unicode.Is(unicode.Zs, r), r == nonJoiner, r == joiner:
		return r
	}
	return '?'
}

// Line returns s for a place within a line: line breaks and tabs become blanks.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return shown(r)
	}, s)
}

// text returns b for a terminal, with its line breaks and tabs.
func text(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if b = b[n:]; r != '\n' && r != '\t' {
			r = shown(r)
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// Writer is for text of many lines. A character may come in parts. It may be used
// by many goroutines at once.
type Writer struct {
	raw io.Writer

	mu   sync.Mutex
	part []byte // of a character whose rest has not come
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{raw: w} }

// Write implements io.Writer.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := append(w.part, b...)
	end := len(all)
	for i := max(0, end-utf8.UTFMax+1); i < end; i++ {
		if utf8.RuneStart(all[i]) && !utf8.FullRune(all[i:]) {
			end = i
			break
		}
	}
	w.part = append([]byte(nil), all[end:]...)
	if _, err := w.raw.Write(text(all[:end])); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Raw returns what w writes to, for those who draw on a terminal or write what is
// no text; w itself if it is no [Writer].
func Raw(w io.Writer) io.Writer {
	if w, ok := w.(*Writer); ok {
		return w.raw
	}
	return w
}

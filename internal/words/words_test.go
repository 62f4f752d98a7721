package words_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"htlcdash/internal/words"
)

var written = []struct{ in, line, text string }{
	{"An evening at the lake", "An evening at the lake", "An evening at the lake"},
	{"Ein Fluß, où est-ce\u00a0? 映画 кино فیلم\u200cها हिन्दी 👩\u200d🚀", "Ein Fluß, où est-ce\u00a0? 映画 кино فیلم\u200cها हिन्दी 👩\u200d🚀", "Ein Fluß, où est-ce\u00a0? 映画 кино فیلم\u200cها हिन्दी 👩\u200d🚀"},
	{"two\nlines\tand a column", "two lines and a column", "two\nlines\tand a column"},
	{"\x1b[2Jgone\x07", "?[2Jgone?", "?[2Jgone?"},
	{"\x1b]52;c;c2VjcmV0\x1b\\", "?]52;c;c2VjcmV0?\\", "?]52;c;c2VjcmV0?\\"},
	{"C1 \u009b31m", "C1 ?31m", "C1 ?31m"},
	{"C1 of Latin-1 \x9b31m", "C1 of Latin-1 ?31m", "C1 of Latin-1 ?31m"},
	{"back\b\b\b\b\rover\x7f", "back???? over?", "back?????over?"},
	{"\u202egnp.exe\u2066\u200f", "?gnp.exe??", "?gnp.exe??"},
	{"cut \xe6\x98", "cut ??", "cut "},
	{"\u2028\x00", "??", "??"},
}

func TestLine(t *testing.T) {
	for _, tt := range written {
		if got := words.Line(tt.in); got != tt.line {
			t.Errorf("%q becomes %q, want %q", tt.in, got, tt.line)
		}
	}
}

// A text may be cut anywhere: it becomes the same.
func TestWriter(t *testing.T) {
	for _, tt := range written {
		for cut := range len(tt.in) + 1 {
			var out bytes.Buffer
			w := words.NewWriter(&out)
			for _, part := range []string{tt.in[:cut], tt.in[cut:]} {
				if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatalf("%d of %d, %v", n, len(part), err)
				}
			}
			if out.String() != tt.text {
				t.Errorf("%q, cut at %d, becomes %q, want %q", tt.in, cut, out.String(), tt.text)
			}
		}
	}
	if words.Raw(words.NewWriter(nil)) != nil || words.Raw(&bytes.Buffer{}) == nil {
		t.Error("what is behind a writer")
	}
}

func FuzzWriter(f *testing.F) {
	for _, tt := range written {
		f.Add(tt.in, 3)
	}
	f.Fuzz(func(t *testing.T, s string, cut int) {
		cut = min(max(cut, 0), len(s))
		var once, twice bytes.Buffer
		words.NewWriter(&once).Write([]byte(s))
		w := words.NewWriter(&twice)
		w.Write([]byte(s[:cut]))
		w.Write([]byte(s[cut:]))
		if once.String() != twice.String() {
			t.Errorf("%q, or %q in two parts", once.String(), twice.String())
		}
		if !utf8.ValidString(once.String()) || strings.ContainsAny(once.String(), "\x1b\r\b\x7f\u009b\u202e") {
			t.Errorf("%q", once.String())
		}
	})
}

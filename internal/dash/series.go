package dash

import (
	"strconv"
	"strings"
)

// A series is SegmentTemplate@media with all filled in but $Number$ and
// $Time$: paths in a row.
type series struct {
	fixed []string // between the numbers: one more than marks
	marks []mark
}

// A mark is $Number$ or $Time$.
type mark struct {
	time  bool
	width int // digits at least
}

// newSeries reads a template (ISO/IEC 23009-1, 5.3.9.4.4), resolves it against
// base and cleans the path once for all its segments.
func newSeries(template, base string, r *Representation) (series, error) {
	var s series
	ref, err := s.expand(template, r)
	if err != nil {
		return s, err
	}
	if isAbsolute(ref) {
		base = ""
	}
	path, err := cleanPath(join(base, ref))
	if err != nil {
		return s, err
	}
	if s.fixed = strings.Split(path, string(rune(marker))); len(s.fixed) != len(s.marks)+1 {
		return s, malformed("template %q: its number is cut out by \"..\"", clip(template))
	}
	return s, nil
}

// expand fills in what is known and puts markers for numbers.
func (s *series) expand(template string, r *Representation) (string, error) {
	var out strings.Builder
	parts := strings.Split(template, "$")
	if len(parts)%2 == 0 {
		return "", malformed("template %q has a single $: write $$ for the character", clip(template))
	}
	for i, part := range parts {
		if i%2 == 0 {
			out.WriteString(part)
			continue
		}
		name, format, hasFormat := strings.Cut(part, "%")
		width, ok := parseWidth(format)
		if hasFormat && (!ok || name == "RepresentationID" || name == "") {
			return "", malformed("template %q: $%s$ has a bad format, want %%0<digits>d", clip(template), clip(part))
		}
		switch name {
		case "":
			out.WriteByte('$')
		case "RepresentationID":
			id, _ := attr(r.element, "id")
			out.WriteString(id)
		case "Bandwidth":
			out.Write(appendPadded(nil, uint64(r.Bandwidth), width))
		case "Number", "Time":
			out.WriteByte(marker)
			s.marks = append(s.marks, mark{name == "Time", width})
		default:
			return "", malformed("template %q: $%s$ is not supported; $RepresentationID$, $Number$, $Time$ and $Bandwidth$ are", clip(template), clip(part))
		}
	}
	return out.String(), nil
}

// parseWidth reads "0<digits>d", the only format that the standard allows.
func parseWidth(format string) (int, bool) {
	digits, ok := strings.CutPrefix(format, "0")
	digits, ok2 := strings.CutSuffix(digits, "d")
	if !ok || !ok2 {
		return 1, false
	}
	if digits == "" {
		return 1, true
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return int(n), err == nil && n <= 20
}

func (s series) varies() bool { return len(s.marks) > 0 }

// append appends the path of one segment to b.
func (s series) append(b []byte, number, time uint64) []byte {
	b = append(b, s.fixed[0]...)
	for i, m := range s.marks {
		v := number
		if m.time {
			v = time
		}
		b = appendPadded(b, v, m.width)
		b = append(b, s.fixed[i+1]...)
	}
	return b
}

func appendPadded(b []byte, v uint64, width int) []byte {
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], v, 10)
	for range width - len(d) {
		b = append(b, '0')
	}
	return append(b, d...)
}

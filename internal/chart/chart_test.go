package chart_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"htlcdash/internal/chart"
)

func draw(t *testing.T, f chart.Figure) string {
	t.Helper()
	var b bytes.Buffer
	if err := f.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

func TestFigureSaysWhatItShows(t *testing.T) {
	line := chart.Line{Name: "agent & others", X: []float64{0, 1, 2}, Y: []float64{0, 50, 100}, Dots: true, Filled: true}
	again := line
	again.Steps, again.Dashed, again.Thin = true, true, true
	svg := draw(t, chart.Figure{Title: "how near", Columns: 2, Panels: []chart.Panel{
		{Title: "left", X: "share, %", Y: "cases, %", Lines: []chart.Line{line}, Marks: []chart.Mark{{Name: "goal", X: 1.5}}},
		{Title: "right", Y: "money, sat", Lines: []chart.Line{again, {Name: "empty", Hue: chart.Red}}},
		{X: "time, s", Y: "buffer, s", Height: 100, MaxX: 10, MaxY: 20},
	}})
	for _, want := range []string{"how near", "left", "right", "share, %", "cases, %", "money, sat", "time, s", "goal", "empty", "#0072B2", ">20<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the figure", want)
		}
	}
	if n := strings.Count(svg, "agent &amp; others"); n != 1 {
		t.Errorf("the legend has a name %d times", n)
	}
	if strings.Contains(svg, ">-0<") {
		t.Error("an axis says -0")
	}
}

func TestFigureRefusesWhatIsNoNumber(t *testing.T) {
	nan := []float64{0, 0}
	nan[1] /= nan[0]
	err := chart.Figure{Panels: []chart.Panel{{Y: "loss", Lines: []chart.Line{{X: []float64{0, 1}, Y: nan}}}}}.WriteSVG(io.Discard)
	if err == nil || !strings.Contains(err.Error(), "loss") {
		t.Errorf("got %v", err)
	}
}

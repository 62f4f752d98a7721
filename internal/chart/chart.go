// Package chart draws figures of lines for documents, as SVG: panels in a grid
// under one title and one legend. It knows nothing of what they show.
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A Figure is panels, row by row. Lines of one name are once in its legend.
type Figure struct {
	Title   string
	Columns int     // of panels; 0: 1
	Width   float64 // points; 0: 680
	Panels  []Panel
}

// A Panel is lines over one pair of axes.
type Panel struct {
	Title  string
	X, Y   string  // what the axes show, with units; without X the numbers are left out too
	Height float64 // points, of its row; 0: 300
	// Range of an axis. Both 0: as the lines need.
	MinX, MaxX float64
	MinY, MaxY float64
	FromZero   bool // the upright axis begins at 0
	Lines      []Line
	Marks      []Mark
}

// A Line goes through points in order.
type Line struct {
	Name   string // in the legend; empty: not there
	X, Y   []float64
	Hue    Hue
	Steps  bool // keeps each Y until the next X
	Dashed bool
	Thin   bool
	Dots   bool // at the points
	Filled bool // down to the axis
}

// A Mark is a dotted line up the whole panel.
type Mark struct {
	Name string
	X    float64
}

// A Hue is one of eight colours that people who confuse colours can tell apart
// (Okabe and Ito, 2008). Others begin anew.
type Hue int

// Hues by name.
const (
	Blue Hue = iota
	Orange
	Green
	Pink
	Sky
	Red
	Black
	Grey
)

var hues = []color.NRGBA{
	{0, 114, 178, 255},
	{230, 159, 0, 255},
	{0, 158, 115, 255},
	{204, 121, 167, 255},
	{86, 180, 233, 255},
	{213, 94, 0, 255},
	{20, 20, 20, 255},
	{150, 150, 150, 255},
}

func (h Hue) color() color.NRGBA { return hues[max(0, int(h))%len(hues)] }

// Sizes in points.
const (
	width  = 680
	height = 300
	margin = 14
	indent = 50 // of title and legend
	title  = 26 // of the figure's title
	entry  = 18 // of a row of the legend
	gap    = 8  // below it
	sample = 24 // of a line in the legend
)

// WriteSVG draws f.
func (f Figure) WriteSVG(w io.Writer) error {
	wide := vg.Length(f.Width)
	if wide == 0 {
		wide = width
	}
	keys, rows := f.legend(wide)
	head := margin + title + vg.Length(rows)*entry + gap
	high := head + margin
	for i := 0; i < len(f.Panels); i += f.columns() {
		high += f.rowHeight(i)
	}
	svg := vgsvg.NewWith(vgsvg.UseWH(wide, high))
	c := draw.New(svg)
	c.FillPolygon(color.White, []vg.Point{{}, {X: wide}, {X: wide, Y: high}, {Y: high}})
	c.FillText(text(14), vg.Point{X: indent, Y: high - margin}, f.Title)
	for _, k := range keys {
		k.draw(c, high-margin-title)
	}
	if err := f.drawPanels(c, high-head); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return err
	}
	// Fonts of the same widths, where this one is not there.
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif;")))
	return err
}

func (f Figure) columns() int { return max(f.Columns, 1) }

// rowHeight is that of the row which begins with panel i.
func (f Figure) rowHeight(i int) (h vg.Length) {
	for _, p := range f.Panels[i:min(i+f.columns(), len(f.Panels))] {
		if p.Height == 0 {
			p.Height = height
		}
		h = max(h, vg.Length(p.Height))
	}
	return h
}

// drawPanels draws the panels below top. The axes of one column stand above
// each other.
func (f Figure) drawPanels(c draw.Canvas, top vg.Length) error {
	plots := make([]*plot.Plot, len(f.Panels))
	column := (c.Max.X - 2*margin) / vg.Length(f.columns())
	left, right := make([]vg.Length, len(f.Panels)), make([]vg.Length, len(f.Panels)) // beside the data
	for i, p := range f.Panels {
		var err error
		if plots[i], err = p.plot(); err != nil {
			return fmt.Errorf("panel %q: %w", p.Y, err)
		}
		data := plots[i].DataCanvas(c)
		left[i], right[i] = data.Min.X-c.Min.X, c.Max.X-data.Max.X
	}
	for i, p := range plots {
		if i > 0 && i%f.columns() == 0 {
			top -= f.rowHeight(i - 1)
		}
		x := margin + column*vg.Length(i%f.columns())
		p.Draw(draw.Canvas{Canvas: c.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: x + slices.Max(left) - left[i], Y: top - f.rowHeight(i/f.columns()*f.columns()) + 6},
			Max: vg.Point{X: x + column - 8 - slices.Max(right) + right[i], Y: top},
		}})
	}
	return nil
}

// A key is a line in the legend.
type key struct {
	line Line
	mark bool
	x, y vg.Length // left, and down from the top of the legend
}

// legend places the names of all lines in rows.
func (f Figure) legend(wide vg.Length) (keys []key, rows int) {
	seen := map[string]bool{}
	add := func(k key) {
		if k.line.Name != "" && !seen[k.line.Name] {
			seen[k.line.Name] = true
			keys = append(keys, k)
		}
	}
	for _, p := range f.Panels {
		for _, l := range p.Lines {
			add(key{line: l})
		}
		for _, m := range p.Marks {
			add(key{line: Line{Name: m.Name}, mark: true})
		}
	}
	x, y := vg.Length(indent), vg.Length(0)
	for i := range keys {
		need := sample + 8 + text(11).Width(keys[i].line.Name)*1.1 + 16
		if i > 0 && x+need > wide-margin {
			x, y = indent, y+entry
		}
		keys[i].x, keys[i].y = x, y
		x += need
	}
	if len(keys) > 0 {
		rows = int(y/entry) + 1
	}
	return keys, rows
}

func (k key) draw(c draw.Canvas, top vg.Length) {
	y := top - k.y - entry/2
	style := k.line.style()
	if k.mark {
		style = markStyle
	}
	c.StrokeLine2(style, k.x, y, k.x+sample, y)
	if k.line.Dots {
		c.DrawGlyph(k.line.glyph(), vg.Point{X: k.x + sample/2, Y: y})
	}
	t := text(11)
	t.YAlign = draw.YCenter
	c.FillText(t, vg.Point{X: k.x + sample + 6, Y: y}, k.line.Name)
}

// plot makes the panel.
func (p Panel) plot() (*plot.Plot, error) {
	out := plot.New()
	p.dress(out)
	for _, l := range p.Lines {
		if err := l.add(out); err != nil {
			return nil, err
		}
	}
	if p.MinX != 0 || p.MaxX != 0 {
		out.X.Min, out.X.Max = p.MinX, p.MaxX
	}
	if p.MinY != 0 || p.MaxY != 0 {
		out.Y.Min, out.Y.Max = p.MinY, p.MaxY
	}
	if p.FromZero {
		out.Y.Min = 0
	}
	for _, m := range p.Marks {
		line := &plotter.Line{XYs: plotter.XYs{{X: m.X, Y: out.Y.Min}, {X: m.X, Y: out.Y.Max}}, LineStyle: markStyle}
		out.Add(line)
	}
	return out, nil
}

var markStyle = draw.LineStyle{Color: color.Gray{90}, Width: 1.2, Dashes: []vg.Length{2, 3}}

// dress sets fonts, axes and grid.
func (p Panel) dress(out *plot.Plot) {
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{222}, color.Gray{236}
	out.Add(grid)
	out.Title.Text, out.Title.TextStyle.Font, out.Title.Padding = p.Title, sans(11), 4
	for _, a := range []*plot.Axis{&out.X, &out.Y} {
		a.Label.TextStyle.Font, a.Tick.Label.Font = sans(11), sans(10)
		a.LineStyle.Color, a.Tick.LineStyle.Color = color.Gray{90}, color.Gray{90}
		a.Tick.Length, a.Label.Padding, a.Padding = 4, 4, 3
	}
	out.X.Label.Text, out.Y.Label.Text = p.X, p.Y
	out.X.Tick.Marker, out.Y.Tick.Marker = round{8, p.X != ""}, round{5, true}
}

// round marks an axis at round numbers.
type round struct {
	most  int  // marks
	named bool // with numbers
}

// Ticks implements [plot.Ticker].
func (r round) Ticks(from, to float64) (out []plot.Tick) {
	step := r.step(to - from)
	for n := math.Ceil(from/step - 1e-9); n*step <= to+step*1e-9; n++ {
		t := plot.Tick{Value: n * step}
		if r.named {
			t.Label = strconv.FormatFloat(math.Round(n*step*1e6)/1e6+0, 'f', -1, 64) // +0: not "-0"
		}
		out = append(out, t)
	}
	if !r.named { // without any label an axis is not drawn
		for i := range out {
			out[i].Label = " "
		}
	}
	return out
}

// step is 1, 2 or 5 times a power of ten.
func (r round) step(span float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(span/float64(r.most))))
	for _, f := range []float64{1, 2, 5} {
		if span/(f*power) <= float64(r.most) {
			return f * power
		}
	}
	return 10 * power
}

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(size)}
}

// text begins at a point: where another font is wider, it moves nothing else.
func text(size float64) draw.TextStyle {
	return draw.TextStyle{Color: color.Gray{20}, Font: sans(size), YAlign: draw.YTop, Handler: plot.DefaultTextHandler}
}

func (l Line) style() draw.LineStyle {
	s := draw.LineStyle{Color: l.Hue.color(), Width: 2}
	if l.Thin {
		s.Width = 1.1
	}
	if l.Dashed {
		s.Dashes = []vg.Length{6, 3}
	}
	return s
}

func (l Line) glyph() draw.GlyphStyle {
	return draw.GlyphStyle{Color: l.Hue.color(), Radius: 3, Shape: draw.CircleGlyph{}}
}

func (l Line) add(out *plot.Plot) error {
	points := make(plotter.XYs, len(l.X))
	for i := range points {
		points[i] = plotter.XY{X: l.X[i], Y: l.Y[i]}
	}
	if len(points) == 0 {
		return nil
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.LineStyle = l.style()
	if l.Steps {
		line.StepStyle = plotter.PostStep
	}
	if l.Filled {
		soft := l.Hue.color()
		soft.A = 45
		line.FillColor = soft
	}
	out.Add(line)
	if l.Dots {
		dots.GlyphStyle = l.glyph()
		out.Add(dots)
	}
	return nil
}

package source_test

import (
	"testing"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/cache"
)

// row makes the segments of a Representation, each of a leaf and a bit.
func row(title byte, rep string, roots ...byte) (out []htlcdash.Segment) {
	for i, r := range roots {
		out = append(out, htlcdash.Segment{
			Title: htlcdash.TitleID{title}, Representation: rep, Index: i,
			Seal: htlcdash.Seal{Sealed: htlcdash.Root{r}, Length: htlcdash.LeafSize + 1},
		})
	}
	return out
}

func TestOutline(t *testing.T) {
	var o source.Outline
	sealed := func(root byte) htlcdash.Blob {
		return htlcdash.Blob{Root: htlcdash.Root{root}, Length: 2 * htlcdash.LeafSize}
	}
	if _, ok := o.Place(sealed(1)); ok {
		t.Error("an empty outline knows a place")
	}
	o.Add(nil)
	o.Add(row(1, "v0", 1, 2, 3))
	o.Add(row(1, "a0", 4, 5))
	o.Add(row(1, "v0", 9, 9, 9)) // known already
	o.Add(row(2, "v0", 6, 2))    // shares a segment
	for root, want := range map[byte]cache.Place{
		1: {Title: htlcdash.TitleID{1}, Index: 0, Count: 3},
		2: {Title: htlcdash.TitleID{1}, Index: 1, Count: 3},
		5: {Title: htlcdash.TitleID{1}, Track: 1, Index: 1, Count: 2},
		6: {Title: htlcdash.TitleID{2}, Index: 0, Count: 2},
	} {
		if p, ok := o.Place(sealed(root)); !ok || p != want {
			t.Errorf("segment %d: %+v, %v", root, p, ok)
		}
		if b, ok := o.Blob(want); !ok || b != sealed(root) {
			t.Errorf("%+v: %v, %v", want, b, ok)
		}
	}
	if b, ok := o.Blob(cache.Place{Title: htlcdash.TitleID{2}, Index: 1, Count: 2}); !ok || b != sealed(2) {
		t.Errorf("a shared segment: %v, %v", b, ok)
	}
	for _, p := range []cache.Place{
		{Title: htlcdash.TitleID{3}},
		{Title: htlcdash.TitleID{1}, Track: 2},
		{Title: htlcdash.TitleID{1}, Track: -1},
		{Title: htlcdash.TitleID{1}, Index: 3},
		{Title: htlcdash.TitleID{1}, Index: -1},
	} {
		if b, ok := o.Blob(p); ok {
			t.Errorf("%+v is %v", p, b)
		}
	}
	for range 2 {
		o.Retain(func(id htlcdash.TitleID) bool { return id != htlcdash.TitleID{1} })
	}
	if _, ok := o.Place(sealed(1)); ok {
		t.Error("a forgotten title is known")
	}
	if _, ok := o.Place(sealed(6)); !ok {
		t.Error("another was forgotten with it")
	}
}

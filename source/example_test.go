package source_test

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"htlcdash"
	"htlcdash/source"
)

// A shelf is a source of one's own: all it takes is one method.
type shelf map[htlcdash.Root][]byte

func (s shelf) Open(_ context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	data, ok := s[b.Root]
	if !ok {
		return nil, htlcdash.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// A library believes no source: what one gives is checked, and the next is asked.
func Example() {
	want := htlcdash.Blob{Root: htlcdash.RootOf([]byte("the film")), Length: 8}
	liar := shelf{want.Root: []byte("an adver")}
	honest := shelf{want.Root: []byte("the film")}
	library, err := source.NewLibrary(source.Options{}, liar, honest)
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := library.Get(context.Background(), want)
	fmt.Printf("%s, %v\n", data, err)
	// Output: the film, <nil>
}

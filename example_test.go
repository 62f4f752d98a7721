package htlcdash_test

import (
	"fmt"

	"htlcdash"
	"htlcdash/lightning"
)

// A publisher seals a segment; a viewer who has the sealed bytes pays for the
// key, which comes as the preimage of the payment, and opens them.
func Example() {
	// The publisher. Sealed bytes and seal are public, the key is not.
	sealed, seal, key := htlcdash.SealSegment([]byte("a seal secret of 32 random bytes"), []byte("moving pictures"))
	seal.Price = 3 * lightning.Sat
	fmt.Println("sealed bytes are right:", seal.SealedBlob().Is(sealed))

	// The provider. The salt is known to both sides and hides the sale from others.
	salt := htlcdash.Salt{1, 2, 3}
	preimage := salt.Preimage(key) // its node settles a payment over preimage.Hash() by it

	// The viewer.
	bought := salt.Key(preimage)
	plain, err := seal.Open(bought, sealed)
	fmt.Printf("%s, %v for %v\n", plain, err, seal.Price)
	fmt.Println("what prints of a key:", bought)
	// Output:
	// sealed bytes are right: true
	// moving pictures, <nil> for 3 sat
	// what prints of a key: content key
}

// One record of a seal list and a path show what a publisher signed of a segment.
func ExampleVerifySeal() {
	var list htlcdash.SealList
	for _, text := range []string{"one", "two", "three"} {
		_, seal, _ := htlcdash.SealSegment([]byte("secret"), []byte(text))
		list = append(list, seal)
	}
	root := list.Root() // stands in the signed MPD
	fmt.Println(htlcdash.VerifySeal(root, len(list), 1, list[1], list.Path(1)))

	forged := list[1]
	forged.Price++
	fmt.Println(htlcdash.VerifySeal(root, len(list), 1, forged, list.Path(1)) == nil)
	// Output:
	// <nil>
	// false
}

// The root of BEP 52 names bytes wherever they lie.
func ExampleRootOf() {
	q := htlcdash.RootOf([]byte("sealed bytes"))
	fmt.Println(htlcdash.SealedPath(q)[:24])
	// Output: sealed/f3/f35cf5b361b0ea
}

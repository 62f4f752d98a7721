package lightning_test

import (
	"fmt"

	"htlcdash/lightning"
)

// Amounts have a unit, or are refused.
func ExampleParseMsat() {
	for _, s := range []string{"21 sat", "1500 msat", "21"} {
		amount, err := lightning.ParseMsat(s)
		fmt.Println(amount, err)
	}
	// Output:
	// 21 sat <nil>
	// 1500 msat <nil>
	// 0 msat amount "21" has no unit: write "21 sat" or "21 msat"
}

// A preimage is worth money: it never prints, whatever the verb.
func ExamplePreimage() {
	p := lightning.NewPreimage([32]byte{1, 2, 3})
	fmt.Printf("%v\n", p)
	fmt.Println(p.Opens(p.Hash()))
	// Output:
	// preimage of 1ac2f192
	// true
}

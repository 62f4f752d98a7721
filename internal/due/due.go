// Package due carries, in a context, the moment by which something is needed:
// who fetches it then knows when waiting for one who is slow costs more than
// asking another as well. It is no deadline: nothing ends when it has passed.
package due

import (
	"context"
	"time"

	"htlcdash/lightning"
)

type key struct{}

// By returns a context that says that what is asked for with it is needed at a
// time.
func By(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, key{}, at)
}

// Of returns when what is asked for with ctx is needed, if By said it.
func Of(ctx context.Context) (at time.Time, said bool) {
	at, said = ctx.Value(key{}).(time.Time)
	return at, said
}

type costs struct{}

// Costs returns a context that says what a second of waiting for what is asked for
// with it is worth.
func Costs(ctx context.Context, second lightning.Msat) context.Context {
	return context.WithValue(ctx, costs{}, second)
}

// CostsOf returns what a second of waiting is worth, if Costs said it.
func CostsOf(ctx context.Context) (second lightning.Msat, said bool) {
	second, said = ctx.Value(costs{}).(lightning.Msat)
	return second, said
}

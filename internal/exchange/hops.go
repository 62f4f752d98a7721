package exchange

import "context"

// MaxHops is how many resellers hand one question for an offer on. Those who buy
// from each other what neither has would else ask in a circle, as long as any of
// them has patience.
const MaxHops = 4

type hopsKey struct{}

// WithHops says that what is asked for under ctx was handed on by so many
// resellers, who asks now included.
func WithHops(ctx context.Context, n uint8) context.Context {
	return context.WithValue(ctx, hopsKey{}, n)
}

// Hops returns what [WithHops] said; 0 is a viewer's own question.
func Hops(ctx context.Context) uint8 {
	n, _ := ctx.Value(hopsKey{}).(uint8)
	return n
}

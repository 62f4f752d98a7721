package plain

import (
	"context"
	"net/http"
	"net/url"
)

// OpenAbroad is Open with a client for hosts that the MPD names.
func OpenAbroad(ctx context.Context, address string, abroad *http.Client) (*Title, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return open(ctx, base, NewClient(), abroad)
}

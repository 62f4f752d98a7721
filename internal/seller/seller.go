// Package seller is the HTTP face of a provider: manifests and sealed bytes for
// everybody, offers for those who want to pay, and a page for the operator.
//
//	GET  /v1/provider, /v1/titles       who sells, and what
//	GET  /t/{name}/manifest.mpd, ...    signed files, free
//	GET  /sealed/{Q}                    sealed bytes, free, immutable
//	POST /v1/offers                     one invoice for each of up to 64 segments
//	GET  /t/{name}/<media segment>      402, or the plain bytes for who has prepaid
//
// Our own viewers take offers in batches and fetch sealed bytes; the 402 is for
// clients that know nothing of us. The seller is off the path while a payment
// travels: the node settles it alone, and the books follow its receipts.
//
// It does not protect the operator's page by a password: that stands on a
// listener of its own. It does not speak TLS: put a proxy before it
// (spec/04-provider.md).
package seller

package exchange

import "htlcdash"

// domainProviderKey is what a provider's signing key is derived under,
// spec/05-exchange.md.
const domainProviderKey = "htlcdash/provider-key/v1"

// ProviderKey is the key that signs offers: a secret of its own, so that one
// who learns it cannot derive salts. The same secret gives the same key. It
// panics if s holds no secret.
func (s Secret) ProviderKey() htlcdash.ProviderKey {
	for n := byte(0); ; n++ {
		if key, err := htlcdash.NewProviderKey(s.mac(domainProviderKey, []byte{n})); err == nil {
			return key
		}
	}
}

// domainIssuers is what the keys of anonymous credentials are derived under,
// spec/08-credential.md.
const domainIssuers = "htlcdash/issuers/v1"

// Issuer is the secret that a provider's keys for anonymous credentials are
// derived from. It panics if s holds no secret.
func (s Secret) Issuer() [32]byte { return s.mac(domainIssuers) }

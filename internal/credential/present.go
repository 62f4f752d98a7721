package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Scheme is the HTTP authentication scheme of RFC 9577.
const Scheme = "PrivateToken"

// MaxSkew is by how much the clocks of client and provider may differ.
const MaxSkew = 2 * time.Minute

// maxTime is the end of the year 9999, in Unix seconds.
const maxTime = 253402300799

// Presented is an authorization as it came: a token, and a MAC over the
// request. Nothing of it is known to be true before [Presented.Verify].
type Presented struct {
	Token
	Time time.Time // when the client says it is, whole seconds
	mac  [32]byte
}

func (p Presented) String() string { return "shown token of key " + p.KeyID.String() }

// LogValue keeps the nonce and the MAC out of logs.
func (p Presented) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Authorization is the header value that authorizes one request and shows the
// token, not its secret: method, request target (path and query as they are
// sent), body, and the time within [MaxSkew]. Who overhears it can repeat the
// same request until then and can do nothing else. It panics if c holds no
// secret.
func (c Credential) Authorization(method, path string, body []byte, at time.Time) string {
	seconds := at.Unix()
	tag := c.Shared.requestMAC(method, path, body, seconds)
	return fmt.Sprintf(`%s token="%s", time="%d", mac="%s"`, Scheme,
		base64.URLEncoding.EncodeToString(c.input()), seconds, base64.URLEncoding.EncodeToString(tag[:]))
}

// requestMAC is keyed by the shared secret itself: all else that is derived
// from it has another domain.
func (s Shared) requestMAC(method, path string, body []byte, seconds int64) [32]byte {
	digest := sha256.Sum256(body)
	b := binary.BigEndian.AppendUint64(digest[:], uint64(seconds))
	b = append(binary.BigEndian.AppendUint64(b, uint64(len(method))), method...)
	return mac(s.key(), domainMAC, b, []byte(path))
}

// ParseAuthorization reads the value of an Authorization header, in exactly
// the form that [Credential.Authorization] gives but for the case of the
// scheme's name. The error matches htlcdash.ErrFormat.
func ParseAuthorization(header string) (p Presented, err error) {
	name, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(name, Scheme) {
		return p, malformed("not the scheme %s", Scheme)
	}
	var token [inputBytes]byte
	if rest, err = cutBase64(rest, `token="`, token[:], `", `); err != nil {
		return p, err
	}
	rest, ok := strings.CutPrefix(rest, `time="`)
	digits, rest, ok2 := strings.Cut(rest, `", `)
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if !ok || !ok2 || err != nil || seconds < 0 || seconds > maxTime || strconv.FormatInt(seconds, 10) != digits {
		return p, malformed("time is not a number of seconds")
	}
	if rest, err = cutBase64(rest, `mac="`, p.mac[:], `"`); err != nil {
		return p, err
	}
	if rest != "" {
		return p, malformed("%d characters after the MAC", len(rest))
	}
	p.Time = time.Unix(seconds, 0).UTC()
	p.Token, err = parseInput(token[:])
	return p, err
}

// cutBase64 reads base64url with padding (RFC 9577, 2.2) of exactly dst, and
// what stands around it.
func cutBase64(s, before string, dst []byte, after string) (rest string, err error) {
	n := base64.URLEncoding.EncodedLen(len(dst))
	what := strings.TrimSuffix(before, `="`)
	if len(s) < len(before)+n+len(after) || !strings.HasPrefix(s, before) || !strings.HasPrefix(s[len(before)+n:], after) {
		return "", malformed("%s is missing, out of its place, or not of %d characters", what, n)
	}
	// DecodeString and not Decode, which skips line breaks into too little.
	b, err := base64.URLEncoding.Strict().DecodeString(s[len(before) : len(before)+n])
	if err != nil || len(b) != len(dst) {
		return "", malformed("%s is not base64url", what)
	}
	copy(dst, b)
	return s[len(before)+n+len(after):], nil
}

// Verify checks that p authorizes the request and was made by who holds s, the
// secret of its token. The error matches [ErrStale] if its time is not within
// [MaxSkew] of now, [ErrForged] if the MAC is wrong.
func (p Presented) Verify(s Shared, method, path string, body []byte, now time.Time) error {
	if err := p.fresh(now); err != nil {
		return err
	}
	if s.IsZero() {
		return ErrForged
	}
	want := s.requestMAC(method, path, body, p.Time.Unix())
	if !hmac.Equal(want[:], p.mac[:]) {
		return ErrForged
	}
	return nil
}

func (p Presented) fresh(now time.Time) error {
	if now.Sub(p.Time).Abs() > MaxSkew {
		return ErrStale
	}
	return nil
}

// Admit checks a request from end to end, what is cheap first, and returns the
// secret that it shares with the client. The error matches [ErrStale],
// [ErrKey] or [ErrForged]. Whether the token was shown before is for the
// caller to ask, after this.
func (r *Keyring) Admit(p Presented, method, path string, body []byte, now time.Time) (Shared, error) {
	if err := p.fresh(now); err != nil {
		return Shared{}, err
	}
	k, err := r.Find(p.KeyID, now)
	if err != nil {
		return Shared{}, err
	}
	s := k.Redeem(p.Token)
	if err := p.Verify(s, method, path, body, now); err != nil {
		return Shared{}, err
	}
	return s, nil
}

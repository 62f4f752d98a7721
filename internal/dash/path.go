package dash

import (
	"net/url"
	"path"
	"strings"
	"unicode/utf8"
)

// isAbsolute reports whether a reference leaves the MPD's folder by naming a
// scheme, a host or the root (RFC 3986, section 4.2).
func isAbsolute(ref string) bool {
	if strings.HasPrefix(ref, "/") {
		return true
	}
	i := strings.IndexAny(ref, ":/?#")
	return i > 0 && ref[i] == ':'
}

// join resolves the relative reference ref against the relative reference
// base: both still percent-encoded (RFC 3986, section 5.2.3).
func join(base, ref string) string {
	if ref == "" {
		return base
	}
	dir, last := base[:strings.LastIndexByte(base, '/')+1], path.Base(base)
	if last == ".." || (last == "." && base != "") {
		return base + "/" + ref // a folder, though it does not end in a slash
	}
	return dir + ref
}

// cleanPath turns a relative reference into a path that stays in the folder of
// the MPD.
func cleanPath(ref string) (string, error) {
	if isAbsolute(ref) {
		return "", malformed("address %q is absolute: the files of a title lie beside its MPD, name them relative to it", clip(ref))
	}
	if strings.ContainsAny(ref, "?#") {
		return "", malformed("address %q has a query or a fragment: name a plain file", clip(ref))
	}
	p, err := decode(ref)
	if err != nil {
		return "", err
	}
	last := p[strings.LastIndexByte(p, '/')+1:]
	p = path.Clean(p)
	if last == "" || last == "." || last == ".." || strings.HasPrefix(p, "../") {
		return "", malformed("address %q is no file in the folder of the MPD", clip(ref))
	}
	if len(p) > maxPath {
		return "", malformed("address %q has more than %d bytes", clip(ref), maxPath)
	}
	return p, nil
}

// decode undoes percent-encoding. What is not a plain name on every system,
// or changes its meaning by decoding, is refused.
func decode(ref string) (string, error) {
	p := ref
	if strings.Contains(ref, "%") {
		var err error
		if p, err = url.PathUnescape(ref); err != nil {
			return "", malformed("address %q: bad percent-encoding", clip(ref))
		}
		if strings.Count(p, "/") != strings.Count(ref, "/") || strings.Count(p, "\x00") != strings.Count(ref, "\x00") {
			return "", malformed("address %q has an encoded slash or NUL", clip(ref))
		}
	}
	if !utf8.ValidString(p) || strings.ContainsFunc(p, isOdd) {
		return "", malformed("address %q has a backslash or a control character", clip(ref))
	}
	return p, nil
}

func isOdd(r rune) bool { return r == '\\' || r == 0x7f || (r < 0x20 && r != marker) }

// marker stands for the number in a path of which a series is made. XML has
// no such character.
const marker = 0

// encode is the relative reference for a path.
func encode(p string) string { return (&url.URL{Path: p}).String() }

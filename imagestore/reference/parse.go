package reference

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ParseNormalizedNamed completes and reads what a user has typed.
func ParseNormalizedNamed(s string) (Named, error) {
	if isIdentifier(s) {
		return nil, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := splitDomain(s)
	if remote, _, _ := strings.Cut(rest, ":"); strings.ToLower(remote) != remote {
		return nil, fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", remote)
	}
	return parse(domain + "/" + rest)
}

// ParseAnyReference reads an image ID, a digest or a name.
func ParseAnyReference(s string) (fmt.Stringer, error) {
	if isIdentifier(s) {
		return onlyDigest("sha256:" + s), nil
	}
	if d, err := digest.Parse(s); err == nil {
		return onlyDigest(d), nil
	}
	return ParseNormalizedNamed(s)
}

// splitDomain tells the host from the rest. The first part of a name is one if
// it looks like it, or could be nothing else.
func splitDomain(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	if !ok {
		return defaultDomain, official + s
	}
	domain, rest = defaultDomain, s
	switch {
	case first == legacyDomain:
		rest = after
	case first == "localhost" || strings.ContainsAny(first, ".:") || strings.ToLower(first) != first:
		domain, rest = first, after
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return domain, rest
}

// parse reads a name that may begin with a host.
func parse(s string) (Named, error) {
	n, tag, sum, ok := split(s)
	if !ok {
		if _, _, _, lower := split(strings.ToLower(s)); lower {
			return nil, errUppercase
		}
		return nil, errInvalid
	}
	if len(n.path) > maxPath {
		return nil, errTooLong
	}
	if sum != "" {
		if _, err := digest.Parse(sum); err != nil {
			return nil, err
		}
	}
	return combine(n, tag, digest.Digest(sum)), nil
}

// split takes a reference apart: NAME[:TAG][@DIGEST].
func split(s string) (n name, tag, sum string, ok bool) {
	s, sum, hasSum := strings.Cut(s, "@")
	if hasSum && !isDigest(sum) {
		return n, "", "", false
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		s, tag = s[:i], s[i+1:]
		if !isTag(tag) {
			return n, "", "", false
		}
	}
	n, ok = splitName(s)
	return n, tag, sum, ok
}

// splitName takes a name apart. What can be a host is one.
func splitName(s string) (name, bool) {
	first, rest, ok := strings.Cut(s, "/")
	if ok && isDomain(first) && isPath(rest) {
		return name{first, rest}, true
	}
	return name{"", s}, isPath(s)
}

func isPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !isComponent(part) {
			return false
		}
	}
	return true
}

// isComponent: small letters and digits, with single dots, one or two
// underscores, or any number of dashes between them.
func isComponent(s string) bool {
	for s != "" {
		n := span(s, isSmall)
		if n == 0 {
			return false
		}
		if s = s[n:]; s == "" {
			return true
		}
		sep := span(s, func(c byte) bool { return c == s[0] })
		if s[0] != '-' && !(s[0] == '.' && sep == 1) && !(s[0] == '_' && sep <= 2) {
			return false
		}
		s = s[sep:]
	}
	return false
}

// isDomain: HOST[:PORT], where the host is a name or an IPv6 address in brackets.
func isDomain(s string) bool {
	host, port, hasPort := s, "", false
	if end := strings.IndexByte(s, ']'); end >= 0 {
		host, port = s[:end+1], s[end+1:]
		if port, hasPort = strings.CutPrefix(port, ":"); !hasPort && port != "" {
			return false
		}
	} else {
		host, port, hasPort = strings.Cut(s, ":")
	}
	if hasPort && (port == "" || span(port, isNumber) != len(port)) {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && span(inner, func(c byte) bool { return c == ':' || isHex(c) }) == len(inner)
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel: letters, digits and dashes, these not at the ends.
func isLabel(s string) bool {
	return s != "" && s[0] != '-' && s[len(s)-1] != '-' && span(s, func(c byte) bool { return c == '-' || isAlnum(c) }) == len(s)
}

// isTag: at most 128 letters, digits, dots, underscores and dashes, the first
// neither dot nor dash.
func isTag(s string) bool {
	word := func(c byte) bool { return c == '_' || isAlnum(c) }
	return s != "" && len(s) <= 128 && word(s[0]) && span(s, func(c byte) bool { return c == '.' || c == '-' || word(c) }) == len(s)
}

// isDigest: an algorithm, whose parts begin with letters, and at least 32 hex
// digits.
func isDigest(s string) bool {
	alg, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < 32 || span(hex, isHex) != len(hex) {
		return false
	}
	start := 0 // of a part of the algorithm
	for i := range len(alg) + 1 {
		if i < len(alg) && isAlnum(alg[i]) {
			continue
		}
		if i < len(alg) && strings.IndexByte("-_+.", alg[i]) < 0 || i == start || !isLetter(alg[start]) {
			return false
		}
		start = i + 1
	}
	return true
}

// isIdentifier: the digits of an image ID.
func isIdentifier(s string) bool {
	return len(s) == 64 && span(s, func(c byte) bool { return isNumber(c) || 'a' <= c && c <= 'f' }) == 64
}

// span counts the bytes at the start of s that are of a kind.
func span(s string, is func(byte) bool) int {
	for i := range len(s) {
		if !is(s[i]) {
			return i
		}
	}
	return len(s)
}

func isNumber(c byte) bool { return '0' <= c && c <= '9' }
func isSmall(c byte) bool  { return isNumber(c) || 'a' <= c && c <= 'z' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isNumber(c) || isLetter(c) }
func isHex(c byte) bool    { return isNumber(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

package reference

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// parse reads a complete reference.
func parse(s string) (Named, error) {
	r, ok := split(s)
	if !ok {
		if _, ok := split(strings.ToLower(s)); ok {
			return nil, errUppercase
		}
		return nil, errFormat
	}
	if len(r.name.path) > maxPath {
		return nil, errTooLong
	}
	if r.digest != "" {
		if _, err := digest.Parse(r.digest); err != nil {
			return nil, err
		}
	}
	return r.name.with(r.tag, digest.Digest(r.digest)), nil
}

// pieces are those of a reference; tag and digest may be empty.
type pieces struct {
	name
	tag, digest string
}

// split takes a reference apart and checks the form of each part. No part but
// the digest has an @ before it, and a colon behind the last slash can only
// begin a tag.
func split(s string) (r pieces, ok bool) {
	s, r.digest, ok = strings.Cut(s, "@")
	if ok && !isDigest(r.digest) {
		return r, false
	}
	last := strings.LastIndexByte(s, '/') + 1
	end, tag, ok := strings.Cut(s[last:], ":")
	if ok && !isTag(tag) {
		return r, false
	}
	r.tag = tag
	full := s[:last] + end
	if domain, rest, ok := strings.Cut(full, "/"); ok && isDomain(domain) && isPath(rest) {
		r.name = name{domain, rest}
		return r, true
	}
	r.name = name{path: full} // what is no domain may still be the first part of a path
	return r, isPath(full)
}

// isPath checks parts between slashes, each words of lowercase letters and
// digits with one period, one or two underscores or some dashes between them.
func isPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		for word := span(part, isLowerOrDigit); word < len(part); word = span(part, isLowerOrDigit) {
			between := separator(part[word:])
			if word == 0 || between == 0 {
				return false
			}
			part = part[word+between:]
		}
		if part == "" {
			return false
		}
	}
	return true
}

// separator is the length of what separates words of a path at the beginning,
// 0 if that may not stand there.
func separator(s string) int {
	n := span(s, func(c byte) bool { return c == s[0] })
	switch {
	case s[0] == '-', s[0] == '_' && n <= 2, s[0] == '.' && n == 1:
		return n
	}
	return 0
}

// isDomain checks a host's name or an address, and a port where there is one.
func isDomain(s string) bool {
	if address, ok := strings.CutPrefix(s, "["); ok {
		n := span(address, func(c byte) bool { return isHex(c) || c == ':' })
		return n > 0 && n < len(address) && address[n] == ']' && isPort(address[n+1:])
	}
	host := span(s, func(c byte) bool { return c != ':' })
	for part := range strings.SplitSeq(s[:host], ".") {
		word := span(part, func(c byte) bool { return isLetterOrDigit(c) || c == '-' })
		if word == 0 || word < len(part) || part[0] == '-' || part[word-1] == '-' {
			return false
		}
	}
	return isPort(s[host:])
}

// isPort checks a port with its colon; none is right, too.
func isPort(s string) bool {
	return s == "" || len(s) > 1 && s[0] == ':' && span(s[1:], isDigit) == len(s)-1
}

// isTag checks 1 to 128 letters, digits, underscores, periods and dashes that
// begin with none of the last two.
func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' &&
		span(s, func(c byte) bool { return isLetterOrDigit(c) || strings.IndexByte("_.-", c) >= 0 }) == len(s)
}

// isDigest checks the names of an algorithm and its parts, a colon, and at
// least 32 hex digits. Whether they are as many as the algorithm has is
// another question.
func isDigest(s string) bool {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || len(hex) < 32 || span(hex, isHex) < len(hex) {
		return false
	}
	for {
		word := span(algorithm, isLetterOrDigit)
		if word == 0 || isDigit(algorithm[0]) {
			return false
		}
		if word == len(algorithm) {
			return true
		}
		if strings.IndexByte("-_+.", algorithm[word]) < 0 {
			return false
		}
		algorithm = algorithm[word+1:]
	}
}

// isID checks 64 hex digits, which are a sha256 without its name.
func isID(s string) bool {
	return len(s) == 64 && span(s, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }) == 64
}

// span counts the bytes at the beginning that are of a kind.
func span(s string, kind func(byte) bool) int {
	for i := range len(s) {
		if !kind(s[i]) {
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool         { return '0' <= c && c <= '9' }
func isLowerOrDigit(c byte) bool  { return 'a' <= c && c <= 'z' || isDigit(c) }
func isLetterOrDigit(c byte) bool { return isLowerOrDigit(c) || 'A' <= c && c <= 'Z' }
func isHex(c byte) bool           { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

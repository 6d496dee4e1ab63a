package layer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var errPax = errors.New("PAX header")

// Prefixes of extended attributes in PAX headers.
const (
	schilyXattr     = "SCHILY.xattr."     // star, GNU tar, Go: the raw value
	libarchiveXattr = "LIBARCHIVE.xattr." // libarchive: name percent-encoded, value base64
)

// paxRecords are extended headers by keyword (POSIX pax, "pax Extended
// Header").
type paxRecords map[string]string

// GNU's sparse format 0.0 repeats these two keywords, one pair a segment.
const (
	sparseOffset   = "GNU.sparse.offset"
	sparseNumBytes = "GNU.sparse.numbytes"
	sparseMap      = "GNU.sparse.map"
)

// parse reads records of the form "LENGTH KEY=VALUE\n". Repeated sparse
// segments of format 0.0 are put together as 0.1 has them.
func (p paxRecords) parse(b []byte) error {
	var segments []string
	for len(b) > 0 {
		key, value, rest, err := paxRecord(b)
		if err != nil {
			return err
		}
		b = rest
		switch key {
		case sparseOffset, sparseNumBytes:
			if (len(segments)%2 == 0) != (key == sparseOffset) || strings.Contains(value, ",") {
				return fmt.Errorf("%w: order of sparse segments", errPax)
			}
			segments = append(segments, value)
		default:
			p[key] = value
		}
	}
	if len(segments) > 0 {
		p[sparseMap] = strings.Join(segments, ",")
	}
	return nil
}

// paxRecord splits off the first record.
func paxRecord(b []byte) (key, value string, rest []byte, err error) {
	const maxDigits = 20
	digits := strings.IndexByte(string(b[:min(len(b), maxDigits)]), ' ')
	if digits < 0 {
		return "", "", nil, fmt.Errorf("%w: no length", errPax)
	}
	n, err := strconv.ParseUint(string(b[:digits]), 10, 31)
	if err != nil || n > uint64(len(b)) || n < uint64(digits)+2 || b[n-1] != '\n' {
		return "", "", nil, fmt.Errorf("%w: bad length %q", errPax, b[:digits])
	}
	key, value, ok := strings.Cut(string(b[digits+1:n-1]), "=")
	if !ok || key == "" {
		return "", "", nil, fmt.Errorf("%w: no keyword", errPax)
	}
	if strings.IndexByte(key, 0) >= 0 || paxText(key) && strings.IndexByte(value, 0) >= 0 {
		return "", "", nil, fmt.Errorf("%w: NUL in %q", errPax, key)
	}
	return key, value, b[n:], nil
}

// paxText reports whether a keyword's value is a name, which cannot hold NUL.
func paxText(key string) bool {
	switch key {
	case "path", "linkpath", "uname", "gname", "GNU.sparse.name":
		return true
	}
	return false
}

// apply lets the records replace what the header block says. An empty value
// takes a record back, so the header block counts.
func (p paxRecords) apply(h *headerBlock) (err error) {
	for key, value := range p {
		if value == "" {
			continue
		}
		switch key {
		case "path":
			h.name = value
		case "linkpath":
			h.link = value
		case "uid":
			h.uid, err = paxNumber(value)
		case "gid":
			h.gid, err = paxNumber(value)
		case "size":
			h.size, err = paxNumber(value)
		case "mtime":
			h.sec, h.nsec, err = paxTime(value)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errPax, key, err)
		}
	}
	return nil
}

func paxNumber(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// paxTime reads seconds with an optional fraction, of which nine digits count.
func paxTime(s string) (sec int64, nsec uint32, err error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if sec, err = strconv.ParseInt(whole, 10, 64); err != nil {
		return 0, 0, err
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return 0, 0, fmt.Errorf("bad fraction %q", fraction)
	}
	n, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil {
		return 0, 0, err
	}
	if n > 0 && strings.HasPrefix(whole, "-") { // -1.25 is 0.75 after -2
		return sec - 1, uint32(1e9 - n), nil
	}
	return sec, uint32(n), nil
}

// xattrs collects the extended attributes, sorted by name.
func (p paxRecords) xattrs(lim Limits) ([]Xattr, error) {
	var list []Xattr
	for key, value := range p {
		x, ok, err := p.xattr(key, value)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if err := checkXattr(x, lim); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// xattr reads a record as an extended attribute. libarchive writes each one
// in both forms; then the raw one counts.
func (p paxRecords) xattr(key, value string) (x Xattr, ok bool, err error) {
	if name, ok := strings.CutPrefix(key, schilyXattr); ok {
		return Xattr{name, []byte(value)}, true, nil
	}
	name, ok := strings.CutPrefix(key, libarchiveXattr)
	if !ok {
		return Xattr{}, false, nil
	}
	if name, err = url.PathUnescape(name); err != nil {
		return Xattr{}, false, fmt.Errorf("%w: %s: %w", errPax, key, err)
	}
	if _, raw := p[schilyXattr+name]; raw {
		return Xattr{}, false, nil
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return Xattr{}, false, fmt.Errorf("%w: %s: %w", errPax, key, err)
	}
	return Xattr{name, data}, true, nil
}

func checkXattr(x Xattr, lim Limits) error {
	if x.Name == "" || len(x.Name) > maxXattrName || strings.IndexByte(x.Name, 0) >= 0 {
		return fmt.Errorf("%w: bad name of an extended attribute: %q", errPax, x.Name)
	}
	if len(x.Value) > lim.XattrValue {
		return limitError("bytes of extended attribute "+x.Name, int64(len(x.Value)), int64(lim.XattrValue))
	}
	return nil
}

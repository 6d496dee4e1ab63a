package layer

import (
	"cmp"
	"fmt"
	"math"
)

// Limits bound what a layer may ask of this machine. A field that is zero
// has the default.
type Limits struct {
	Entries    int   // entries, and parents that are not in the tar; default 2,000,000
	Depth      int   // components of a path; default 8,192
	Path       int   // bytes of a path; default 65,536
	HeaderSize int64 // bytes of extended headers and sparse map of one entry; default 8 MiB
	XattrValue int   // bytes of an extended attribute, which Linux limits too; default 65,536
	Tables     int64 // bytes of names, links, attributes and segments in memory; default 1 GiB
	Total      int64 // bytes of the uncompressed tar; default 4 TiB
}

func (l Limits) withDefaults() Limits {
	l.Entries = cmp.Or(l.Entries, 2_000_000)
	l.Depth = cmp.Or(l.Depth, 8192)
	l.Path = cmp.Or(l.Path, 1<<16)
	l.HeaderSize = cmp.Or(l.HeaderSize, 8<<20)
	l.XattrValue = cmp.Or(l.XattrValue, 1<<16)
	l.Tables = min(cmp.Or(l.Tables, 1<<30), math.MaxUint32)
	l.Total = cmp.Or(l.Total, 4<<40)
	return l
}

// What no Linux filesystem can hold (linux/limits.h).
const (
	maxName      = 255       // NAME_MAX
	maxTarget    = 4095      // PATH_MAX without the final NUL
	maxXattrName = 255       // XATTR_NAME_MAX
	maxID        = 1<<32 - 2 // (uid_t)-1 means "leave as it is"
)

func limitError(what string, got, limit int64) error {
	return fmt.Errorf("%w: %s: %d, more than %d", ErrLimit, what, got, limit)
}

package layer

import (
	"strings"

	"golang.org/x/sys/unix"

	"unio/whiteout"
)

// AUFS kept the content of files with several names in this folder, and layers
// that docker made on it have those files as hard links into it. The folder is
// not part of the image, but what is linked to must not be lost.
const aufsLinks = whiteout.Prefix + whiteout.Prefix + "plnk/"

// isAufsLink reports whether an entry is such a file.
func isAufsLink(path string, mode uint32) bool {
	return strings.HasPrefix(path, aufsLinks) && mode&unix.S_IFMT == unix.S_IFREG
}

// addAufsLink takes in a file that is only there to be linked to.
func (b *indexBuilder) addAufsLink(e *Entry) error {
	if err := b.add(e); err != nil {
		return err
	}
	last := len(b.recs) - 1
	b.aufs[e.Path] = b.recs[last]
	b.recs = b.recs[:last]
	if len(b.aufs) > b.lim.Entries {
		return limitError("entries", int64(len(b.aufs)), int64(b.lim.Entries))
	}
	return nil
}

// resolveAufsLinks makes the first hard link to such a file the file itself,
// and the others links to the first.
func (b *indexBuilder) resolveAufsLinks() {
	first := make(map[string]heapRef)
	for i := range b.recs {
		r := &b.recs[i]
		if r.flags&flagHardlink == 0 || len(b.aufs) == 0 {
			continue
		}
		target := string(b.heap[r.link.off : r.link.off+r.link.len])
		source, ok := b.aufs[target]
		if !ok {
			continue
		}
		if path, ok := first[target]; ok {
			r.link = path
			continue
		}
		first[target] = r.path
		source.path = r.path
		source.flags = r.flags &^ flagHardlink
		*r = source
	}
}

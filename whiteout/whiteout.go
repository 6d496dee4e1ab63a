// Package whiteout is the vocabulary of deletion: the names by which OCI
// layers say that something of a lower layer is gone, and the devices and
// extended attributes by which the kernel's overlayfs says it in an upper
// folder. It holds names and predicates only and touches no file.
package whiteout

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// OCI whiteouts (image-spec, layer.md, "Whiteouts"; AUFS is where the names
// come from).
const (
	Prefix     = ".wh."          // .wh.NAME hides NAME of the lower layers
	OpaqueName = ".wh..wh..opq"  // hides all lower entries of its folder
	aufsPrefix = Prefix + Prefix // .wh..wh.*: AUFS's own bookkeeping
)

// Kind says what a name in a layer means.
type Kind uint8

const (
	None   Kind = iota // an ordinary entry
	File               // a whiteout of one name
	Opaque             // the opaque marker of its folder
	Ignore             // AUFS's own metadata: skipped by every reader
)

// ErrName is returned for a whiteout that names nothing it may name.
var ErrName = errors.New("bad whiteout name")

// Parse tells what the last component of a path in a layer means and, for
// File, which name it hides. ".wh.", ".wh.." and ".wh..." hide no valid name
// and give ErrName.
func Parse(base string) (kind Kind, hides string, err error) {
	switch {
	case !strings.HasPrefix(base, Prefix):
		return None, "", nil
	case base == OpaqueName:
		return Opaque, "", nil
	case strings.HasPrefix(base, aufsPrefix):
		return Ignore, "", nil
	}
	hides = base[len(Prefix):]
	if hides == "" || hides == "." || hides == ".." {
		return None, "", fmt.Errorf("%w: %q", ErrName, base)
	}
	return File, hides, nil
}

// Name returns the OCI whiteout that hides name.
func Name(name string) string { return Prefix + name }

// IsReserved reports whether an OCI layer cannot hold an entry of this name,
// because readers would take it for a whiteout.
func IsReserved(name string) bool { return strings.HasPrefix(name, Prefix) }

// IsDevice reports whether an inode is overlayfs's whiteout: a character
// device 0:0 (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories").
func IsDevice(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && rdev == 0
}

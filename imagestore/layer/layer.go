// Package layer holds image layers as data. A layer is an index (what is in
// it, with all attributes, and where in the tar each file's bytes lie) beside
// the uncompressed layer tar; nothing is ever unpacked to a path of the host,
// so a path or link in a layer can reach nothing outside.
//
//   - [Scan] reads a layer tar once, as it streams by, and makes its [Index].
//   - [BuildView] merges the indexes of a chain of layers, by the rules of
//     package merge, into the data of a [View].
//   - [View] is that merged tree, memory-mapped: a merge.Lower whose node
//     numbers never change and whose lookups allocate nothing.
//   - [Diff] goes the other way: from an upper folder to the tar of a new layer.
//
// Indexes and views are derived data (docs/formats.md): immutable files with
// checksums, made again from the tars when they are missing, damaged or of
// another version. The package does not fetch, store or name layers.
package layer

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"unio/unionfs/merge"
)

var (
	// ErrBadTar says that a layer tar is truncated, corrupt, or holds what no
	// filesystem can hold.
	ErrBadTar = errors.New("bad layer tar")
	// ErrBadIndex says that an index or view file is damaged, or of a version
	// this program does not know. It is to be made again from the tars.
	ErrBadIndex = errors.New("bad index")
	// ErrLimit says that a layer exceeds one of its [Limits].
	ErrLimit = errors.New("layer exceeds a limit")
	// errDamaged is what a View answers where its file turns out damaged.
	errDamaged = fmt.Errorf("%w: %w", ErrBadIndex, merge.ErrCorrupt)
)

// ChainID names a chain of layers, bottom first, by their diffIDs (image-spec,
// config.md, "Layer ChainID"). That of no layers is "".
func ChainID(diffIDs []digest.Digest) digest.Digest { return identity.ChainID(diffIDs) }

// Package place puts files into an image: it carries out COPY and ADD of a
// Dockerfile and writes what they add as one layer.
//
// Nothing is mounted and no file is made on the host. The files come from
// trees of package build/source; where they go is worked out on the view of
// the image below, whose links are followed by name and never lead out of it.
// The rules for destinations are docker's (moby, builder/dockerfile/copy.go;
// buildkit, solver/llbsolver/file):
//
//   - a destination that ends in "/", or that is a folder already, takes a file
//     under its own name; any other takes it in its place;
//   - of a folder, what is in it is copied, and merged with a folder there:
//     inner folders take the attributes of the source, the destination keeps
//     its own;
//   - missing folders above are made, 0755 and of the owner asked for;
//   - a source that is a link is followed, a link inside of a folder is copied.
//
// The same copy over the same image gives the same bytes: names are sorted,
// times are whole seconds as in docker's layers, and what is made has the time
// that the caller says.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"unio/build/source"
	"unio/imagestore"
)

// ErrFailed is what errors wrap that are the Dockerfile's or the build
// context's fault: the text reads as docker's.
var ErrFailed = errors.New("copy failed")

// Copy is one COPY or ADD instruction, with all variables replaced.
type Copy struct {
	From    source.Tree // of Sources; nil: there is no build context
	Sources []string    // as written
	// More is copied behind Sources: here-documents, downloads, repositories.
	More []Part
	Dest string // as written: a slash at its end means a folder
	// Workdir is what a relative Dest starts from; "": the root.
	Workdir string
	Chown   string // USER[:GROUP], names or numbers; "": owners as the trees have them
	Chmod   string // octal or symbolic; "": modes as the trees have them
	Add     bool   // ADD: archives among Sources are unpacked
	Link    bool   // --link: the image below is not looked at
	Parents bool   // --parents: the folders above a source are made too
	// Stage says that From is an image or a stage, not the build context,
	// which some messages tell.
	Stage   bool
	Exclude []string // --exclude, patterns in the form of .dockerignore
	// Time is that of folders that are made; zero: 1970.
	Time time.Time
	// Latest, unless zero, is the latest time anything may have, so that
	// checkouts of different age give one image (SOURCE_DATE_EPOCH).
	Latest time.Time

	expanded []match
	none     bool                      // nothing to copy is no error: --exclude left nothing
	sums     map[fileKey]digest.Digest // what Digest found
}

// Part is one more source of a copy.
type Part struct {
	Tree source.Tree
	Name string // "": the whole tree, as a folder
	// Unpack says that it is an archive to be unpacked (ADD --unpack).
	Unpack bool
}

// command is the instruction's name, for messages.
func (c *Copy) command() string {
	if c.Add {
		return "ADD"
	}
	return "COPY"
}

// failure is an error with exactly this text that is the user's to mend.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return []error{ErrFailed, f.cause} }

// failed makes an error of the user's; cause, for errors.Is, may be nil.
func failed(cause error, format string, args ...any) error {
	if cause == nil {
		cause = ErrFailed
	}
	return &failure{fmt.Sprintf(format, args...), cause}
}

// Digest returns the digest of all that the copy reads: names, types, modes,
// owners, links, attributes and content, but no times, as docker's cache goes.
// The destination and the flags are the caller's to add to a cache key. It
// also finds what is wrong with the sources.
func (c *Copy) Digest(ctx context.Context) (digest.Digest, error) {
	list, err := c.expand()
	if err != nil {
		return "", err
	}
	h := newHasher(ctx, c)
	for i := range list {
		if err := h.match(i, &list[i]); err != nil {
			return "", fmt.Errorf("%s failed: %w", c.command(), err)
		}
	}
	return h.sum.Digest(), nil
}

// WriteTar writes the layer that the copy adds to the image below; nil: there
// is none (FROM scratch). Folders that lead to what is new are in it with the
// attributes that they have below, as in docker's layers.
func (c *Copy) WriteTar(ctx context.Context, below *imagestore.View, w io.Writer) error {
	var tree source.Tree
	if below != nil {
		tree = source.OpenView(below)
	}
	return c.WriteTarOver(ctx, tree, w)
}

// WriteTarOver is WriteTar over any tree.
func (c *Copy) WriteTarOver(ctx context.Context, below source.Tree, w io.Writer) error {
	list, err := c.expand()
	if err != nil {
		return err
	}
	p, err := c.newPlan(ctx, below)
	if err != nil {
		return err
	}
	defer p.close()
	for i := range list {
		if err := p.place(i, &list[i]); err != nil {
			return fmt.Errorf("failed to copy files: %w", err)
		}
	}
	return p.write(w)
}

// destination returns the clean name of the destination, and whether it must
// be a folder.
func (c *Copy) destination() (name string, folder bool) {
	name = c.Dest
	if !path.IsAbs(name) {
		name = path.Join("/", c.Workdir) + "/" + name
	}
	base := c.Dest[strings.LastIndexByte(c.Dest, '/')+1:]
	return source.Clean(name), base == "" || base == "." || base == ".." || c.Parents
}

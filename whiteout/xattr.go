package whiteout

import "strings"

// Xattrs are the extended attributes by which an upper folder records what a
// plain file cannot say. The overlay names are the kernel's
// (fs/overlayfs/overlayfs.h); the unio names are ours, for what overlayfs has
// no form for.
type Xattrs struct {
	// Overlay's own.
	Opaque   string // "y" on a folder: nothing of the lower shows through
	Redirect string // on a folder: absolute lower path ("/a/b") or lower sibling name it continues
	Metacopy string // on a regular file: attributes only, data is still the lower's
	Whiteout string // on an empty regular file: a whiteout without a device (kernel ≥ 6.7)
	// Ours.
	Origin  string // decimal node number of the lower node this was copied up from
	Nlink   string // on a file in the link hub: decimal count of its names in the union
	Partial string // on a regular file: decimal number of bytes below which a hole shows the lower's data

	// A union's own namespaces, each with the prefix under which a user's
	// attribute of that namespace is stored in an upper folder, as overlayfs
	// does for nested overlays (overlayfs.rst, "Nesting overlayfs mounts"). The
	// namespaces of a union of the other kind are its users' data: a rootless
	// overlay in a container of root's keeps its own there.
	private [][2]string
}

// Privileged are the attributes that root uses; nobody else can set or see
// them.
var privileged = newXattrs("trusted.")

// unprivileged are those of a union without privilege (overlayfs's
// "userxattr" mode).
var unprivileged = withOverride(newXattrs("user."))

// withOverride makes [OverrideStat] one of the union's own: to a union with
// privilege it is its users' data.
func withOverride(x Xattrs) Xattrs {
	x.private = append(x.private, [2]string{OverrideStat, OverrideStat + ".kept"})
	return x
}

func newXattrs(ns string) Xattrs {
	return Xattrs{
		Opaque:   ns + "overlay.opaque",
		Redirect: ns + "overlay.redirect",
		Metacopy: ns + "overlay.metacopy",
		Whiteout: ns + "overlay.whiteout",
		Origin:   ns + "unio.origin",
		Nlink:    ns + "unio.nlink",
		Partial:  ns + "unio.partial",
		private: [][2]string{
			{ns + "overlay.", ns + "overlay.overlay."},
			{ns + "unio.", ns + "unio.unio."},
			// What fuse-overlayfs keeps in layers that it has served is
			// nobody's data either.
			{"user.fuseoverlayfs.", "user.fuseoverlayfs.fuseoverlayfs."},
		},
	}
}

// XattrsFor returns the names for a union with or without privilege.
func XattrsFor(root bool) Xattrs {
	if root {
		return privileged
	}
	return unprivileged
}

// OverrideStat is where owner, mode and type of a file are kept when the real
// ones cannot be set, as "uid:gid:mode[:type]", mode octal, type one of dir,
// file, symlink, pipe, socket, block-MAJ-MIN, char-MAJ-MIN
// (containers/storage, pkg/idtools and drivers/overlay).
const OverrideStat = "user.containers.override_stat"

// OpaqueValue marks a folder opaque in [Xattrs.Opaque].
const OpaqueValue = "y"

// IsPrivate reports whether an extended attribute, as stored, belongs to the
// union's own bookkeeping: hidden from users of the mount, never written to a
// layer.
func (x *Xattrs) IsPrivate(stored string) bool {
	_, shown := x.Unescape(stored)
	return !shown
}

// Escape returns the name under which an attribute that the user of a mount
// (or a layer) calls name is stored in an upper folder.
func (x *Xattrs) Escape(name string) string {
	for _, e := range x.private {
		if rest, ok := strings.CutPrefix(name, e[0]); ok {
			return e[1] + rest
		}
	}
	return name
}

// Unescape is the reverse of [Xattrs.Escape]: the name that the user sees. It
// reports false for an attribute that is the union's own and not to be seen at
// all.
func (x *Xattrs) Unescape(stored string) (name string, ok bool) {
	for _, e := range x.private {
		if rest, ok := strings.CutPrefix(stored, e[1]); ok {
			return e[0] + rest, true
		}
		if strings.HasPrefix(stored, e[0]) {
			return stored, false
		}
	}
	return stored, true
}

// ParseRedirect splits the value of [Xattrs.Redirect] into the names on its
// way: from the lower's root if it is absolute, else the name of a sibling. It
// is not ok if there is no name, or one that leads anywhere but down
// (ovl_get_redirect_xattr in the kernel's fs/overlayfs/namei.c).
func ParseRedirect(value string) (names []string, absolute, ok bool) {
	path, absolute := strings.CutPrefix(value, "/")
	names = strings.Split(path, "/")
	for _, name := range names {
		if name == "" || name == "." || name == ".." {
			return nil, absolute, false
		}
	}
	return names, absolute, absolute || len(names) == 1
}

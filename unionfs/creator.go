package unionfs

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// Who creates a file to write it, and cannot read it through that descriptor,
// writes past the kernel's page cache (FOPEN_DIRECT_IO). That saves a request
// for each new file: on the way through the cache the kernel asks for the file's
// capabilities before the first write (file_remove_privs in mm/filemap.c,
// cap_inode_need_killpriv), and what is written is copied once less. All other
// descriptors, that is, all that are opened later, go through the cache as
// ever; the kernel drops what a direct write makes stale there.
//
// In return the server does for such a descriptor what the kernel leaves out
// (fuse_direct_write_iter in fs/fuse/file.c): it syncs what O_SYNC asks for,
// takes the file's capabilities away, and tells the kernel when set-id bits
// went.

// direct is what the server knows of direct descriptors.
type direct struct {
	handle uint64          // of those that this server gives out; 0: it gives out none
	drop   func(merge.Ino) // makes the kernel ask for a node's attributes again
	marked sync.Map        // merge.Ino → nil: files that got set-id bits or capabilities
}

// newHandle makes a number that no earlier server of the mount used, for what
// those had marked is not known. It is 0 where nothing may be written past the
// cache.
func newHandle(o *Options) uint64 {
	if o.Cow == nil || o.Writeback || !directSafe(kernelRelease()) {
		return 0
	}
	return uint64(time.Now().UnixNano())
}

// opened completes the answer to a request that has made and opened a file.
func (d *direct) opened(in *fuse.CreateIn, out *fuse.CreateOut) {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if d.handle == 0 || in.Flags&unix.O_ACCMODE != unix.O_WRONLY || in.Mode&setID != 0 {
		return
	}
	out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	out.Fh = d.handle
}

const (
	setID        = unix.S_ISUID | unix.S_ISGID
	capabilities = "security.capability"
)

// mark notes that a file has got rights which a write takes away.
func (d *direct) mark(ino merge.Ino) {
	if d.handle != 0 {
		d.marked.Store(ino, nil)
	}
}

// unsure tells whether a direct write to a file may have to take rights away.
func (d *direct) unsure(handle uint64, ino merge.Ino) bool {
	if handle != d.handle {
		return true
	}
	_, marked := d.marked.Load(ino)
	return marked
}

// writeDirect answers a WRITE through a direct descriptor.
func (fs *filesystem) writeDirect(in *fuse.WriteIn, data []byte, how cow.How) (int, error) {
	ino := merge.Ino(in.NodeId)
	unsure := fs.direct.unsure(in.Fh, ino)
	if unsure {
		err := fs.cow.Removexattr(ino, capabilities)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return 0, err
		}
	}
	n, err := fs.cow.Write(ino, data, int64(in.Offset), how)
	if unsure && how.KillPriv {
		fs.direct.drop(ino)
	}
	if err != nil || in.Flags&unix.O_DSYNC == 0 || fs.cow.Volatile() {
		return n, err
	}
	return n, fs.cow.Fsync(ino, in.Flags&unix.O_SYNC != unix.O_SYNC) // O_SYNC is O_DSYNC and one bit more
}

// directSafe reports whether a kernel (release is that of uname) drops cached
// pages behind a direct write, too: commit b359af8275a9, in Linux 6.19 and in
// these of its stable series. One that does so only before the write can be
// left with a page that a reader fetched in between.
func directSafe(release string) bool {
	major, rest := number(release)
	minor, rest := number(rest)
	patch, _ := number(rest)
	if major != 6 {
		return major > 6
	}
	switch minor {
	case 18:
		return patch >= 4
	case 12:
		return patch >= 66
	case 6:
		return patch >= 122
	}
	return minor >= 19
}

// number returns the number that a text begins with, and what comes behind it
// and a dot.
func number(text string) (int, string) {
	digits := strings.TrimLeft(text, "0123456789")
	n, err := strconv.Atoi(text[:len(text)-len(digits)])
	if err != nil {
		return 0, ""
	}
	return n, strings.TrimPrefix(digits, ".")
}

// kernelRelease is what uname says, "" if it does not.
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

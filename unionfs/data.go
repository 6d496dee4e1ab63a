package unionfs

import (
	"os"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// reading is the answer to a READ that puts the data where it is sent from.
type reading struct {
	fs   *filesystem
	ino  merge.Ino
	off  int64
	size int
}

// Size returns how many bytes were asked for.
func (r *reading) Size() int { return r.size }

// Done has nothing to release.
func (r *reading) Done() {}

// Bytes reads into buf.
func (r *reading) Bytes(buf []byte) ([]byte, fuse.Status) {
	n, err := r.fs.tree.Read(r.ino, buf[:min(len(buf), r.size)], r.off)
	return buf[:n], r.fs.status("read", uint64(r.ino), err)
}

// Readv reads into several buffers in turn, until one is not filled.
func (r *reading) Readv(dst [][]byte) (int, fuse.Status) {
	done := 0
	for _, b := range dst {
		n, err := r.fs.tree.Read(r.ino, b, r.off+int64(done))
		done += n
		if err != nil {
			return done, r.fs.status("read", uint64(r.ino), err)
		}
		if n < len(b) {
			break
		}
	}
	return done, fuse.OK
}

// Read answers READ.
func (fs *filesystem) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	return &reading{fs: fs, ino: merge.Ino(in.NodeId), off: int64(in.Offset), size: int(in.Size)}, fuse.OK
}

// Lseek answers LSEEK, which comes for SEEK_DATA and SEEK_HOLE only. Where the
// kernel collects writes it asks without having sent them (fuse_lseek in
// fs/fuse/file.c): told that there is no such request it takes all to be data.
func (fs *filesystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if fs.writeback {
		return fuse.ENOSYS
	}
	off, err := fs.tree.Seek(merge.Ino(in.NodeId), int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return fs.status("lseek", in.NodeId, err)
}

// Write answers WRITE.
func (fs *filesystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if fs.cow == nil {
		return 0, fuse.EROFS
	}
	how := cow.How{
		KillPriv:  in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0,
		Foreign:   fs.foreign(&in.InHeader),
		KeepMtime: fs.writeback && in.WriteFlags&fuse.WRITE_CACHE != 0,
	}
	n, err := fs.cow.Write(merge.Ino(in.NodeId), data, int64(in.Offset), how)
	return uint32(max(n, 0)), fs.status("write", in.NodeId, err)
}

// Writev answers WRITE whose data is one piece; of others it tells the caller
// to join them.
func (fs *filesystem) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if len(data) != 1 {
		return 0, fuse.ENOSYS
	}
	return fs.Write(cancel, in, data[0])
}

// Fallocate answers FALLOCATE.
func (fs *filesystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if fs.cow == nil {
		return fuse.EROFS
	}
	return fs.status("fallocate", in.NodeId,
		fs.cow.Fallocate(merge.Ino(in.NodeId), in.Mode, int64(in.Offset), int64(in.Length)))
}

// CopyFileRange answers COPY_FILE_RANGE.
func (fs *filesystem) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	if fs.cow == nil {
		return 0, fuse.EROFS
	}
	const most = 1 << 30 // the answer's count has 32 bits
	n, err := fs.cow.CopyRange(merge.Ino(in.NodeId), int64(in.OffIn), merge.Ino(in.NodeIdOut), int64(in.OffOut),
		int(min(in.Len, most)))
	return uint32(max(n, 0)), fs.status("copy_file_range", in.NodeId, err)
}

// Fsync answers FSYNC. A volatile mount has nothing to do: told so once, the
// kernel takes every later one for done (fuse_fsync in fs/fuse/file.c).
func (fs *filesystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if fs.cow == nil {
		return fuse.OK
	}
	if fs.cow.Volatile() {
		return fuse.ENOSYS
	}
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	return fs.status("fsync", in.NodeId, fs.cow.Fsync(merge.Ino(in.NodeId), in.FsyncFlags&dataOnly != 0))
}

// FsyncDir answers FSYNCDIR.
func (fs *filesystem) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fs.Fsync(cancel, in)
}

// GetXAttr answers GETXATTR; an empty dest asks for the length.
func (fs *filesystem) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if fs.noXattrs {
		return 0, fuse.ENOSYS
	}
	if cow.IsACL(name) && !fs.acl {
		return 0, fuse.Status(unix.ENOTSUP)
	}
	value, err := fs.tree.Getxattr(merge.Ino(h.NodeId), name)
	if err == unix.ENODATA && name == label && !fs.labels {
		// ls -l asks for each file unless it is told that there are none at all.
		return 0, fuse.Status(unix.ENOTSUP)
	}
	if err != nil {
		return 0, fs.status("getxattr", h.NodeId, err)
	}
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// label is the attribute of SELinux.
const label = "security.selinux"

// hasLabels reports whether SELinux is at work here.
func hasLabels() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// ListXAttr answers LISTXATTR; an empty dest asks for the length.
func (fs *filesystem) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if fs.noXattrs {
		return 0, fuse.ENOSYS
	}
	var list []byte
	err := fs.tree.Listxattr(merge.Ino(h.NodeId), func(name string) {
		// Of these only who may read one learns the names (xattr(7)).
		if h.Uid != 0 && strings.HasPrefix(name, "trusted.") || cow.IsACL(name) && !fs.acl {
			return
		}
		list = append(append(list, name...), 0)
	})
	if err != nil {
		return 0, fs.status("listxattr", h.NodeId, err)
	}
	if len(list) > xattrListMax {
		return 0, fuse.Status(unix.E2BIG)
	}
	if len(list) > len(dest) {
		return uint32(len(list)), fuse.ERANGE
	}
	return uint32(copy(dest, list)), fuse.OK
}

// xattrListMax is the longest list of names that the kernel takes, in bytes
// (XATTR_LIST_MAX in include/uapi/linux/limits.h).
const xattrListMax = 65536

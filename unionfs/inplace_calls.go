package unionfs

import (
	"strings"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// as gives the bytes of a message, or of the room for one, a type.
func as[T any](b []byte) *T { return (*T)(unsafe.Pointer(unsafe.SliceData(b))) }

// args gives the header and arguments of a task's request their type.
func args[T any](t *task) *T { return (*T)(unsafe.Pointer(&t.args)) }

// place makes room for a structure at the start of an answer.
func place[T any](body []byte) (out *T, n int, ok bool) {
	var zero T
	if n = int(unsafe.Sizeof(zero)); len(body) < n {
		return nil, 0, false
	}
	out = as[T](body)
	*out = zero
	return out, n, true
}

// answer carries out the request of a task, where data follows its arguments,
// and returns how much it has written to body.
func (d *inPlace) answer(t *task, data, body []byte) (int, fuse.Status) {
	switch t.head().Opcode {
	case opLookup:
		return d.lookup(t, data, body)
	case opGetattr, opSetattr:
		return d.attributes(t, body)
	case opRead:
		return d.read(t, body)
	case opReaddir, opReaddirplus:
		return d.list(t, body)
	case opWrite:
		return d.write(t, data, body)
	case opMknod, opMkdir:
		return d.make(t, data, body)
	case opUnlink, opRmdir:
		return d.remove(t, data)
	case opGetxattr:
		return d.getxattr(t, data, body)
	case opReadlink:
		target, err := d.fs.tree.Readlink(merge.Ino(t.head().NodeId))
		return copy(body, target), d.fs.status("readlink", t.head().NodeId, err)
	case opStatfs:
		out, n, ok := place[fuse.StatfsOut](body)
		if !ok {
			return 0, notHere
		}
		return n, d.fs.StatFs(nil, t.head(), out)
	}
	return 0, notHere
}

func (d *inPlace) lookup(t *task, data, body []byte) (int, fuse.Status) {
	name, ok := t.take(data)
	if !ok {
		return 0, notHere
	}
	if d.keeps {
		name = strings.Clone(name) // what take gave is overwritten by the next request
	}
	out, n, ok := place[fuse.EntryOut](body)
	if !ok {
		return 0, notHere
	}
	return n, d.fs.lookupTo(t.head(), name, &t.st, out)
}

func (d *inPlace) attributes(t *task, body []byte) (int, fuse.Status) {
	out, n, ok := place[fuse.AttrOut](body)
	if !ok {
		return 0, notHere
	}
	if t.head().Opcode == opSetattr {
		return n, d.fs.setattrTo(args[fuse.SetAttrIn](t), &t.st, out)
	}
	return n, d.fs.getattrTo(t.head(), &t.st, out)
}

func (d *inPlace) read(t *task, body []byte) (int, fuse.Status) {
	in := args[fuse.ReadIn](t)
	if len(body) < int(in.Size) {
		return 0, notHere
	}
	// An offset beyond what an int64 holds is negative here, which the tree refuses.
	n, err := d.fs.tree.Read(merge.Ino(in.NodeId), body[:in.Size], int64(in.Offset))
	return n, d.fs.status("read", in.NodeId, err)
}

func (d *inPlace) write(t *task, data, body []byte) (int, fuse.Status) {
	in := args[fuse.WriteIn](t)
	const answer = int(unsafe.Sizeof(fuse.WriteOut{}))
	if len(data) < int(in.Size) || len(body) < answer {
		return 0, notHere
	}
	// Data and answer may share their place: the answer goes there last.
	written, status := d.fs.Write(nil, in, data[:in.Size])
	*as[fuse.WriteOut](body) = fuse.WriteOut{Size: written}
	return answer, status
}

// list answers READDIR and READDIRPLUS: as many entries as the kernel has room
// for. The list that go-fuse fills lies in the task because a closure over one on
// the stack would be allocated.
func (d *inPlace) list(t *task, body []byte) (int, fuse.Status) {
	in := args[fuse.ReadIn](t)
	if len(body) < int(in.Size) {
		return 0, notHere
	}
	t.list = *fuse.NewDirEntryList(body[:in.Size], in.Offset)
	add := t.add
	if in.Opcode == opReaddirplus {
		add = t.plus
	}
	err := d.fs.tree.ReadDir(merge.Ino(in.NodeId), in.Offset, add)
	n := len(t.list.Bytes())
	t.list = fuse.DirEntryList{} // body is a mapping that may be gone later
	return n, d.fs.status("readdir", in.NodeId, err)
}

func (t *task) addEntry(e cow.Dirent) bool { return addEntry(&t.list, &e) }

func (t *task) addPlus(e cow.Dirent) bool { return t.fs.addPlus(t.head(), &t.list, &e, &t.st) }

// make answers MKNOD and MKDIR. The kernel sends MKDIR without the bits that say
// folder (fuse_mkdir in fs/fuse/dir.c).
func (d *inPlace) make(t *task, data, body []byte) (int, fuse.Status) {
	name, ok := t.take(data)
	if !ok {
		return 0, notHere
	}
	what := cow.New{}
	if t.head().Opcode == opMkdir {
		in := args[fuse.MkdirIn](t)
		what = cow.New{Mode: unix.S_IFDIR | in.Mode&0o7777, Umask: in.Umask}
	} else {
		in := args[fuse.MknodIn](t)
		what = cow.New{Mode: in.Mode, Rdev: userDev(in.Rdev), Umask: in.Umask}
	}
	out, n, ok := place[fuse.EntryOut](body)
	if !ok {
		return 0, notHere
	}
	return n, d.fs.createTo(t.head(), strings.Clone(name), what, &t.st, out)
}

// remove answers UNLINK and RMDIR.
func (d *inPlace) remove(t *task, data []byte) (int, fuse.Status) {
	name, ok := t.take(data)
	if !ok {
		return 0, notHere
	}
	name = strings.Clone(name) // a whiteout keeps it
	if t.head().Opcode == opRmdir {
		return 0, d.fs.Rmdir(nil, t.head(), name)
	}
	return 0, d.fs.Unlink(nil, t.head(), name)
}

// getxattr asks for a value or, where there is no room for one, for its length.
func (d *inPlace) getxattr(t *task, data, body []byte) (int, fuse.Status) {
	in := args[fuse.GetXAttrIn](t)
	name, ok := t.take(data)
	if !ok || len(body) < int(in.Size) {
		return 0, notHere
	}
	if in.Size > 0 {
		n, status := d.fs.GetXAttr(nil, t.head(), name, body[:in.Size])
		return int(n), status
	}
	out, n, ok := place[fuse.GetXAttrOut](body)
	if !ok {
		return 0, notHere
	}
	length, status := d.fs.GetXAttr(nil, t.head(), name, nil)
	if status != fuse.OK && status != fuse.ERANGE {
		return 0, status
	}
	out.Size = length
	return n, fuse.OK
}

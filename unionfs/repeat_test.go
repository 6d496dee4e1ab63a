package unionfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
	"unio/unionfs/transport"
)

// twice answers requests by a filesystem without a mount, which a successor
// takes over at will.
type twice struct {
	*filesystem
	t     *testing.T
	o     cow.Options
	lower string
	names *os.File // of a lower that is read in place; nil: it is a copy in memory
}

func newTwice(t *testing.T, folders bool) *twice {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	base := t.TempDir()
	w := &twice{t: t, o: cow.Options{Upper: base + "/upper", Work: base + "/work", Root: true}}
	script := "mkdir lower upper work; cd lower; mkdir dir full; echo a >a; echo b >b; echo x >full/x; echo h >h; ln h i"
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = base
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	w.lower = filepath.Join(base, "lower")
	if folders {
		fd, err := unix.MemfdCreate("names", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		w.names = os.NewFile(uintptr(fd), "names")
		t.Cleanup(func() { w.names.Close() })
	}
	w.openLower()
	ledger, err := NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	w.start(ledger)
	t.Cleanup(func() { w.cow.Close() })
	return w
}

// openLower opens the lower as a fresh process does, which knows no node.
func (w *twice) openLower() {
	w.t.Helper()
	var err error
	if w.names == nil {
		w.o.Lower, err = mergetest.FromDir(w.lower)
	} else {
		w.o.Lower, err = dirlower.Open(dirlower.Options{Dirs: []string{w.lower}, Root: true, Names: w.names})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *twice) start(ledger *Ledger) {
	w.t.Helper()
	union, err := cow.Open(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.filesystem = newFilesystem(&Options{Cow: union, Lower: w.o.Lower, Ledger: ledger})
}

// succeed lets another server take over.
func (w *twice) succeed() {
	w.t.Helper()
	lock, err := w.cow.Lock()
	if err != nil {
		w.t.Fatal(err)
	}
	defer lock.Close()
	if w.o.WorkFD, err = unix.Dup(int(lock.Fd())); err != nil {
		w.t.Fatal(err)
	}
	w.o.Resume = true
	w.openLower()
	w.start(w.ledger)
}

func (w *twice) number(path string) uint64 {
	w.t.Helper()
	ino := merge.RootIno
	for name := range strings.SplitSeq(path, "/") {
		var st cow.Stat
		if err := w.cow.Lookup(ino, name, &st); err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
		ino = st.Ino
	}
	return uint64(ino)
}

// picture lists the tree: names, numbers, modes, owners, links, attributes.
func (w *twice) picture(ino merge.Ino, path string) string {
	var st cow.Stat
	if err := w.cow.Getattr(ino, &st); err != nil {
		return fmt.Sprintf("%s: %v\n", path, err)
	}
	text := fmt.Sprintf("%s %d %o %d %d %d", path, st.Ino, st.Mode, st.UID, st.GID, st.Nlink)
	w.cow.Listxattr(ino, func(name string) {
		value, _ := w.cow.Getxattr(ino, name)
		text += fmt.Sprintf(" %s=%s", name, value)
	})
	text += "\n"
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return text
	}
	var below []cow.Dirent
	w.cow.ReadDir(ino, 2, func(e cow.Dirent) bool { below = append(below, e); return true })
	for _, e := range below {
		text += w.picture(e.Ino, path+"/"+e.Name)
	}
	return text
}

func header(unique, node uint64) fuse.InHeader {
	return fuse.InHeader{Unique: unique, NodeId: node, Caller: fuse.Caller{Owner: fuse.Owner{Uid: 11, Gid: 12}}}
}

const rootNode = uint64(merge.RootIno)

// changes are requests that change names or attributes.
func changes() map[string]func(w *twice, unique uint64) fuse.Status {
	rename := func(from, to string, flags uint32) func(*twice, uint64) fuse.Status {
		return func(w *twice, unique uint64) fuse.Status {
			in := fuse.RenameIn{InHeader: header(unique, rootNode), Newdir: rootNode, Flags: flags}
			return w.Rename(nil, &in, from, to)
		}
	}
	return map[string]func(w *twice, unique uint64) fuse.Status{
		"mknod": func(w *twice, unique uint64) fuse.Status {
			return w.Mknod(nil, &fuse.MknodIn{InHeader: header(unique, rootNode), Mode: unix.S_IFREG | 0o4751}, "n", &fuse.EntryOut{})
		},
		"mkdir": func(w *twice, unique uint64) fuse.Status {
			return w.Mkdir(nil, &fuse.MkdirIn{InHeader: header(unique, rootNode), Mode: 0o751}, "n", &fuse.EntryOut{})
		},
		"symlink": func(w *twice, unique uint64) fuse.Status {
			h := header(unique, rootNode)
			return w.Symlink(nil, &h, "target", "n", &fuse.EntryOut{})
		},
		"link": func(w *twice, unique uint64) fuse.Status {
			in := fuse.LinkIn{InHeader: header(unique, rootNode), Oldnodeid: w.number("b")}
			return w.Link(nil, &in, "n", &fuse.EntryOut{})
		},
		"link of a lower file with two names": func(w *twice, unique uint64) fuse.Status {
			in := fuse.LinkIn{InHeader: header(unique, rootNode), Oldnodeid: w.number("h")}
			return w.Link(nil, &in, "n", &fuse.EntryOut{})
		},
		"unlink": func(w *twice, unique uint64) fuse.Status {
			h := header(unique, rootNode)
			return w.Unlink(nil, &h, "a")
		},
		"unlink of one of two names": func(w *twice, unique uint64) fuse.Status {
			h := header(unique, rootNode)
			return w.Unlink(nil, &h, "h")
		},
		"rmdir": func(w *twice, unique uint64) fuse.Status {
			h := header(unique, rootNode)
			return w.Rmdir(nil, &h, "dir")
		},
		"rename":             rename("a", "n", 0),
		"rename over":        rename("a", "b", 0),
		"rename noreplace":   rename("a", "n", unix.RENAME_NOREPLACE),
		"rename of a folder": rename("full", "dir", 0),
		"exchange":           rename("a", "b", unix.RENAME_EXCHANGE),
		"exchange of kinds":  rename("full", "b", unix.RENAME_EXCHANGE),
		"setxattr create": func(w *twice, unique uint64) fuse.Status {
			in := fuse.SetXAttrIn{InHeader: header(unique, w.number("b"))}
			in.Flags = unix.XATTR_CREATE
			return w.SetXAttr(nil, &in, "user.n", []byte("v"))
		},
		"removexattr": func(w *twice, unique uint64) fuse.Status {
			ino := merge.Ino(w.number("b"))
			if unique&transport.Repeated == 0 {
				if err := w.cow.Setxattr(ino, "user.old", []byte("v"), 0); err != nil {
					w.t.Fatal(err)
				}
			}
			h := header(unique, uint64(ino))
			return w.RemoveXAttr(nil, &h, "user.old")
		},
	}
}

// TestRepeated sends each request, lets successors take over and sends it
// again: it is done once, and each answer is a success.
func TestRepeated(t *testing.T) {
	for name, change := range changes() {
		t.Run(name, func(t *testing.T) { repeated(t, change, false) })
		t.Run(name+" over a folder", func(t *testing.T) { repeated(t, change, true) })
	}
}

func repeated(t *testing.T, change func(*twice, uint64) fuse.Status, folders bool) {
	t.Helper()
	const unique = 4242
	w := newTwice(t, folders)
	if s := change(w, unique); !s.Ok() {
		t.Fatal(s)
	}
	want := w.picture(merge.RootIno, "")
	for range 2 {
		w.succeed()
		if s := change(w, unique|transport.Repeated); !s.Ok() {
			t.Error(s)
		}
		if got := w.picture(merge.RootIno, ""); got != want {
			t.Errorf("once:\n%stwice:\n%s", want, got)
		}
	}
}

// TestRepeatedButNew sends requests that are marked as repeated, though the
// first server never came to them.
func TestRepeatedButNew(t *testing.T) {
	for name, change := range changes() {
		if name == "removexattr" {
			continue // it prepares what it removes when it is not repeated
		}
		t.Run(name, func(t *testing.T) {
			plain, marked := newTwice(t, false), newTwice(t, false)
			marked.succeed()
			one, two := change(plain, 7), change(marked, 7|transport.Repeated)
			if one != two || one != fuse.OK {
				t.Errorf("answers %v and %v", one, two)
			}
			clean := func(s string) string { return strings.Join(noNumbers(s), "\n") }
			if a, b := clean(plain.picture(merge.RootIno, "")), clean(marked.picture(merge.RootIno, "")); a != b {
				t.Errorf("not repeated:\n%s\nrepeated:\n%s", a, b)
			}
		})
	}
}

// noNumbers takes the inode numbers out of a picture.
func noNumbers(s string) (lines []string) {
	for line := range strings.SplitSeq(s, "\n") {
		if words := strings.Fields(line); len(words) > 1 {
			lines = append(lines, fmt.Sprint(words[:1], words[2:]))
		}
	}
	return lines
}

// TestStillRefused sends requests that have to fail, marked as repeated.
func TestStillRefused(t *testing.T) {
	w := newTwice(t, false)
	again := header(9|transport.Repeated, rootNode)
	ofB := header(9|transport.Repeated, w.number("b"))
	for what, c := range map[string]struct{ got, want fuse.Status }{
		"mkdir over a file":      {w.Mkdir(nil, &fuse.MkdirIn{InHeader: again}, "a", &fuse.EntryOut{}), fuse.Status(unix.EEXIST)},
		"mknod over a folder":    {w.Mknod(nil, &fuse.MknodIn{InHeader: again, Mode: unix.S_IFREG}, "dir", &fuse.EntryOut{}), fuse.Status(unix.EEXIST)},
		"link over another file": {w.Link(nil, &fuse.LinkIn{InHeader: again, Oldnodeid: w.number("b")}, "a", &fuse.EntryOut{}), fuse.Status(unix.EEXIST)},
		"rmdir of a full folder": {w.Rmdir(nil, &again, "full"), fuse.Status(unix.ENOTEMPTY)},
		"rename of nothing":      {w.Rename(nil, &fuse.RenameIn{InHeader: again, Newdir: rootNode}, "no", "none"), fuse.ENOENT},
		"removexattr of none":    {w.RemoveXAttr(nil, &ofB, "user.none"), fuse.Status(unix.ENODATA)},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}

// TestHalfMade repeats a MKNOD whose first try had come to making a file, but
// not to giving it its owner and mode.
func TestHalfMade(t *testing.T) {
	w := newTwice(t, false)
	if err := os.WriteFile(filepath.Join(w.o.Upper, "n"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.succeed()
	in := fuse.MknodIn{InHeader: header(5|transport.Repeated, rootNode), Mode: unix.S_IFREG | 0o2751}
	var out fuse.EntryOut
	if s := w.Mknod(nil, &in, "n", &out); !s.Ok() || out.Mode != unix.S_IFREG|0o2751 || out.Uid != 11 || out.Gid != 12 {
		t.Errorf("%v, mode %o, owner %d:%d", s, out.Mode, out.Uid, out.Gid)
	}
}

// TestNumbersOverFolders: a successor knows the numbers of files that it has
// never looked up, as far as the kernel was given them.
func TestNumbersOverFolders(t *testing.T) {
	w := newTwice(t, true)
	numbers := map[string]uint64{}
	for _, path := range []string{"a", "full", "full/x", "dir", "i"} {
		numbers[path] = w.number(path)
		w.cow.Remember(merge.Ino(numbers[path]))
	}
	w.cow.Setxattr(merge.Ino(numbers["a"]), "user.n", []byte("v"), 0)
	h := header(3, rootNode)
	if s := w.Unlink(nil, &h, "i"); !s.Ok() {
		t.Fatal(s)
	}
	for range 2 {
		w.succeed()
		for path, ino := range numbers {
			var st cow.Stat
			if err := w.cow.Getattr(merge.Ino(ino), &st); err != nil || uint64(st.Ino) != ino {
				t.Errorf("%s: number %x, %v", path, st.Ino, err)
			}
			if path == "i" && st.Nlink != 1 {
				t.Errorf("%d names left", st.Nlink)
			}
		}
		buf := make([]byte, 4)
		if n, err := w.cow.Read(merge.Ino(numbers["full/x"]), buf, 0); string(buf[:n]) != "x\n" || err != nil {
			t.Errorf("reads %q, %v", buf[:n], err)
		}
		if got := w.number("full/x"); got != numbers["full/x"] {
			t.Errorf("number %x, before %x", got, numbers["full/x"])
		}
	}
}

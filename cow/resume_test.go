package cow_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
)

// resume does what a successor does: the dead server's union is left as it is,
// and its lock goes over.
func (r *rack) resume() {
	r.t.Helper()
	lock, err := r.Lock()
	if err != nil {
		r.t.Fatal(err)
	}
	defer lock.Close()
	fd, err := unix.Dup(int(lock.Fd()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.o.Resume, r.o.WorkFD = true, fd
	r.open()
}

const lost = `
mkdir -p gone/sub bare/dir deep; echo lower >lower; echo meta >meta; head -c 400000 /dev/zero | tr '\0' p >partial
echo in >gone/sub/in; echo one >one; ln one two; echo p >pair; ln pair pear; echo kept >kept; ln kept kopt; ln -s here link`

func (r *rack) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rack) makeFile(name, text string) merge.Ino {
	r.t.Helper()
	var st cow.Stat
	r.must(r.Create(merge.RootIno, name, cow.New{Mode: unix.S_IFREG | 0o640}, &st))
	_, err := r.Write(st.Ino, []byte(text), 0, cow.How{})
	r.must(err)
	return st.Ino
}

func (r *rack) makeFolder(name string) merge.Ino {
	r.t.Helper()
	var st cow.Stat
	r.must(r.Create(merge.RootIno, name, cow.New{Mode: unix.S_IFDIR | 0o751, UID: 3}, &st))
	return st.Ino
}

// losses are ways to lose the last name; each returns who has lost it.
func losses() map[string]func(r *rack) merge.Ino {
	const root = merge.RootIno
	return map[string]func(r *rack) merge.Ino{
		"a file of the upper": func(r *rack) merge.Ino {
			ino := r.makeFile("new", "new")
			r.Remember(ino)
			r.must(r.Unlink(root, "new"))
			return ino
		},
		"a lower file": func(r *rack) merge.Ino {
			ino := r.at("lower")
			r.Remember(ino)
			r.must(r.Unlink(root, "lower"))
			return ino
		},
		"a lower file with other attributes": func(r *rack) merge.Ino {
			ino, mode := r.at("meta"), uint32(0o600)
			r.Remember(ino)
			r.must(r.Setattr(ino, cow.Change{Mode: &mode}, &cow.Stat{}))
			r.must(r.Unlink(root, "meta"))
			return ino
		},
		"a partial file": func(r *rack) merge.Ino {
			ino := r.at("partial")
			r.Remember(ino)
			_, err := r.Write(ino, []byte("changed"), 100000, cow.How{})
			r.must(err)
			r.must(r.Unlink(root, "partial"))
			return ino
		},
		"a lower file with its folders": func(r *rack) merge.Ino {
			dir, sub, ino := r.at("gone"), r.at("gone/sub"), r.at("gone/sub/in")
			for _, n := range []merge.Ino{dir, sub, ino} {
				r.Remember(n)
			}
			r.must(r.Unlink(sub, "in"))
			r.must(r.Rmdir(dir, "sub"))
			r.must(r.Rmdir(root, "gone"))
			return ino
		},
		"a lower folder": func(r *rack) merge.Ino {
			dir, ino := r.at("bare"), r.at("bare/dir")
			r.Remember(dir)
			r.Remember(ino)
			r.must(r.Rmdir(dir, "dir"))
			return ino
		},
		"a folder of the upper": func(r *rack) merge.Ino {
			ino := r.makeFolder("fold")
			r.Remember(ino)
			r.must(r.Rmdir(root, "fold"))
			return ino
		},
		"a file replaced": func(r *rack) merge.Ino {
			ino := r.makeFile("old", "old")
			r.Remember(ino)
			r.makeFile("young", "young")
			r.must(r.Rename(root, "young", root, "old", 0))
			return ino
		},
		"a folder replaced": func(r *rack) merge.Ino {
			ino := r.makeFolder("oldfold")
			r.Remember(ino)
			r.must(r.Setxattr(ino, "user.x", []byte("y"), 0))
			r.makeFolder("youngfold")
			r.must(r.Rename(root, "youngfold", root, "oldfold", 0))
			return ino
		},
		"both links of a lower file": func(r *rack) merge.Ino {
			ino := r.at("one")
			r.Remember(ino)
			r.must(r.Unlink(root, "one"))
			r.must(r.Unlink(root, "two"))
			return ino
		},
		"a file without a name": func(r *rack) merge.Ino {
			var st cow.Stat
			r.must(r.Tmpfile(root, cow.New{Mode: unix.S_IFREG | 0o600, UID: 7}, &st))
			r.Remember(st.Ino)
			_, err := r.Write(st.Ino, []byte("nameless"), 0, cow.How{})
			r.must(err)
			return st.Ino
		},
	}
}

// look describes a node as far as the kernel can see it.
func (r *rack) look(ino merge.Ino) string {
	r.t.Helper()
	var st cow.Stat
	if err := r.Getattr(ino, &st); err != nil {
		return err.Error()
	}
	st.Atime, st.Ctime, st.Blksize = unix.Timespec{}, unix.Timespec{}, 0
	text := fmt.Sprintf("%+v", st)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		buf := make([]byte, 1<<20)
		n, err := r.Read(ino, buf, 0)
		text += fmt.Sprintf(" %x %v", bytes.ReplaceAll(buf[:n], []byte("pppp"), nil), err)
	}
	r.must(r.Listxattr(ino, func(name string) { text += " " + name }))
	return text
}

// TestResumeOrphans loses the last names of all kinds of nodes and lets other
// servers take over: nothing about them changes until the kernel forgets them.
func TestResumeOrphans(t *testing.T) {
	needRoot(t)
	for name, lose := range losses() {
		t.Run(name, func(t *testing.T) {
			r := newRack(t, lost, nil)
			ino := lose(r)
			before := r.look(ino)
			for range 2 {
				r.resume()
				if after := r.look(ino); after != before {
					t.Errorf("before and after:\n%s\n%s", before, after)
				}
			}
			checkOrphanLives(t, r, ino)
			r.Forget(ino, 1)
			if left := r.orphans(); len(left) > 0 && name != "a lower file with its folders" && name != "a lower folder" {
				t.Errorf("left among the orphans: %v", left)
			}
		})
	}
}

// checkOrphanLives changes an orphan.
func checkOrphanLives(t *testing.T, r *rack, ino merge.Ino) {
	t.Helper()
	var st cow.Stat
	mode := uint32(0o711)
	r.must(r.Setattr(ino, cow.Change{Mode: &mode}, &st))
	if st.Mode&0o7777 != 0o711 || st.Nlink != 0 {
		t.Errorf("mode %o, %d links", st.Mode, st.Nlink)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	_, err := r.Write(ino, []byte("more"), 500000, cow.How{})
	r.must(err)
	buf := make([]byte, 4)
	if _, err := r.Read(ino, buf, 500000); err != nil || string(buf) != "more" {
		t.Errorf("read %q, %v", buf, err)
	}
}

func (r *rack) orphans() []string {
	list, err := filepath.Glob(filepath.Join(r.o.Work, "orphan", "*"))
	r.must(err)
	return list
}

// TestResumeLinks checks link counts after a takeover, and that a file made
// without a name can still get one.
func TestResumeLinks(t *testing.T) {
	needRoot(t)
	r := newRack(t, lost, nil)
	pair, kept := r.at("pair"), r.at("kept")
	r.must(r.Unlink(merge.RootIno, "pear"))
	r.must(r.Link(kept, merge.RootIno, "third", &cow.Stat{}))
	var st cow.Stat
	r.must(r.Tmpfile(merge.RootIno, cow.New{Mode: unix.S_IFREG | 0o600}, &st))
	r.Remember(st.Ino)
	r.resume()
	r.must(r.Link(st.Ino, merge.RootIno, "named", &st))
	if st.Nlink != 1 || r.at("named") != st.Ino || len(r.orphans()) > 0 {
		t.Errorf("named: %d links; orphans %v", st.Nlink, r.orphans())
	}
	named := st.Ino
	for ino, want := range map[merge.Ino]uint32{pair: 1, kept: 3} {
		if r.must(r.Getattr(ino, &st)); st.Nlink != want {
			t.Errorf("%d links, want %d", st.Nlink, want)
		}
	}
	r.must(r.Unlink(merge.RootIno, "named"))
	if len(r.orphans()) != 1 {
		t.Error("an unlinked file that the kernel may refer to was not kept")
	}
	r.Forget(named, 1)
	if len(r.orphans()) != 0 {
		t.Error("it is kept for ever")
	}
}

// TestFreshOpenHasNoOrphans makes sure that what a crash left goes.
func TestFreshOpenHasNoOrphans(t *testing.T) {
	needRoot(t)
	r := newRack(t, lost, nil)
	ino := r.makeFile("a", "b")
	r.Remember(ino)
	r.must(r.Unlink(merge.RootIno, "a"))
	if len(r.orphans()) != 1 {
		t.Fatalf("orphans: %v", r.orphans())
	}
	r.reopen()
	if len(r.orphans()) != 0 {
		t.Errorf("orphans: %v", r.orphans())
	}
}

// TestResumeListing reads half of a folder from one server and the rest from
// the next, while names go and come.
func TestResumeListing(t *testing.T) {
	needRoot(t)
	r := newRack(t, "mkdir d; touch d/l{0..49}", nil)
	dir := r.at("d")
	var st cow.Stat
	for i := range 300 {
		r.must(r.Create(dir, fmt.Sprint("u", i), cow.New{Mode: unix.S_IFREG | 0o600}, &st))
	}
	r.must(r.Unlink(dir, "l7"))
	var seen []string
	read := func(after uint64, atMost int) (last uint64) {
		r.must(r.ReadDir(dir, after, func(e cow.Dirent) bool {
			seen, last = append(seen, e.Name), e.Cookie
			atMost--
			return atMost > 0
		}))
		return last
	}
	last := read(0, 30)
	for range 10 {
		r.resume()
		r.must(r.Unlink(dir, seen[len(seen)-1]))
		last = read(last, 31)
	}
	for range 2 {
		last = read(last, 1000)
	}
	slices.Sort(seen)
	if want := 2 + 49 + 300; len(seen) != want || len(slices.Compact(seen)) != want {
		t.Errorf("%d names seen, %d of them different, want %d", len(seen), len(slices.Compact(seen)), want)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

package cow_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow"
	"unio/unionfs/merge"
	"unio/unionfs/merge/mergetest"
)

// bed is a union that is used by its methods, without a mount.
type bed struct {
	*cow.FS
	t     *testing.T
	o     cow.Options
	upper string
}

// newPlainBed makes a plain union over what a script leaves in the lower.
func newPlainBed(t *testing.T, script string) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for trusted attributes and whiteouts")
	}
	base := t.TempDir()
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := filepath.Join(base, "lower")
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = lower
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%s%v", script, out, err)
	}
	tree, err := mergetest.FromDir(lower)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, upper: filepath.Join(base, "upper")}
	b.o = cow.Options{Upper: b.upper, Work: filepath.Join(base, "work"), Lower: tree, Root: true, Plain: true}
	b.open()
	t.Cleanup(func() { b.Close() })
	return b
}

func (b *bed) open() {
	b.t.Helper()
	var err error
	if b.FS, err = cow.Open(b.o); err != nil {
		b.t.Fatal(err)
	}
}

// reopen does what a remount does.
func (b *bed) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// stat looks a path up, as the kernel does.
func (b *bed) stat(path string) (st cow.Stat, err error) {
	ino := merge.RootIno
	for name := range strings.SplitSeq(path, "/") {
		if err := b.Lookup(ino, name, &st); err != nil {
			return st, err
		}
		ino = st.Ino
	}
	return st, nil
}

func (b *bed) ino(path string) merge.Ino {
	b.t.Helper()
	if path == "." {
		return merge.RootIno
	}
	st, err := b.stat(path)
	if err != nil {
		b.t.Fatalf("%s: %v", path, err)
	}
	return st.Ino
}

func (b *bed) rename(from, to string, flags uint) error {
	return b.Rename(b.ino(filepath.Dir(from)), filepath.Base(from), b.ino(filepath.Dir(to)), filepath.Base(to), flags)
}

func (b *bed) read(path string) string {
	b.t.Helper()
	buf := make([]byte, 1<<20)
	n, err := b.Read(b.ino(path), buf, 0)
	if err != nil {
		b.t.Fatalf("read %s: %v", path, err)
	}
	return string(buf[:n])
}

// tree lists the union: path, type and content.
func (b *bed) tree() []string {
	b.t.Helper()
	var list []string
	b.walk(merge.RootIno, "", &list)
	slices.Sort(list)
	return list
}

func (b *bed) walk(dir merge.Ino, prefix string, list *[]string) {
	b.t.Helper()
	b.must(b.ReadDir(dir, 2, func(e cow.Dirent) bool {
		path := prefix + e.Name
		if e.Type == unix.S_IFDIR {
			*list = append(*list, path+"/")
			b.walk(e.Ino, path+"/", list)
			return true
		}
		*list = append(*list, path+" "+b.read(path))
		return true
	}))
}

// inUpper lists the upper folder itself: "w" is a whiteout, "o" an opaque
// folder, "!" an attribute that a plain upper must not have.
func (b *bed) inUpper() []string {
	b.t.Helper()
	var list []string
	b.must(filepath.WalkDir(b.upper, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == b.upper {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := strings.TrimPrefix(path, b.upper+"/")
		for mark, attr := range map[string]string{
			"!redirect": "trusted.overlay.redirect", "!metacopy": "trusted.overlay.metacopy", "o": "trusted.overlay.opaque",
		} {
			if _, err := unix.Lgetxattr(path, attr, nil); err == nil {
				line += " " + mark
			}
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			line += " w"
		case e.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", data)
		}
		list = append(list, line)
		return nil
	}))
	return list
}

func (b *bed) wantUpper(want ...string) {
	b.t.Helper()
	if got := b.inUpper(); !slices.Equal(got, want) {
		b.t.Errorf("the upper has\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestPlainChmodCopiesData: who reads the upper alone finds the data.
func TestPlainChmodCopiesData(t *testing.T) {
	b := newPlainBed(t, `mkdir d; echo data > d/f`)
	mode := uint32(0o600)
	var st cow.Stat
	b.must(b.Setattr(b.ino("d/f"), cow.Change{Mode: &mode}, &st))
	b.wantUpper("d", `d/f "data\n"`)
	if st.Mode&0o7777 != 0o600 || st.Size != 5 {
		t.Errorf("mode %o, size %d", st.Mode, st.Size)
	}
}

// TestPlainRenameFolder: a lower folder is copied up with all that shows in it,
// and what its upper had hidden stays hidden.
func TestPlainRenameFolder(t *testing.T) {
	b := newPlainBed(t, `mkdir -p d/sub/deep e; echo 1 > d/a; echo 2 > d/b; echo 3 > d/sub/deep/c; echo 4 > e/x`)
	b.must(b.Unlink(b.ino("d"), "b"))
	before := b.ino("d/sub/deep/c")
	b.must(b.rename("d", "moved", 0))
	want := []string{"e/", "e/x 4\n", "moved/", "moved/a 1\n", "moved/sub/", "moved/sub/deep/", "moved/sub/deep/c 3\n"}
	for range 2 {
		if got := b.tree(); !slices.Equal(got, want) {
			t.Fatalf("the union shows %q, want %q", got, want)
		}
		if now := b.ino("moved/sub/deep/c"); now != before {
			t.Errorf("the number of a file was %d and is %d", before, now)
		}
		b.wantUpper("d w", "moved o", `moved/a "1\n"`, "moved/sub o", "moved/sub/deep o", `moved/sub/deep/c "3\n"`)
		b.reopen()
	}
}

// TestPlainRenameOverFolder: the target's lower entries do not shine through,
// and exchanged folders are both whole.
func TestPlainRenameOverFolder(t *testing.T) {
	b := newPlainBed(t, `mkdir d e g; echo 1 > d/a; echo 2 > e/b; echo 3 > g/c`)
	b.must(b.Unlink(b.ino("e"), "b"))
	b.must(b.rename("d", "e", 0))
	b.must(b.rename("e", "g", unix.RENAME_EXCHANGE))
	want := []string{"e/", "e/c 3\n", "g/", "g/a 1\n"}
	for range 2 {
		if got := b.tree(); !slices.Equal(got, want) {
			t.Fatalf("the union shows %q, want %q", got, want)
		}
		b.reopen()
	}
	b.wantUpper("d w", "e o", `e/c "3\n"`, "g o", `g/a "1\n"`)
}

// TestPlainDetachCancelled: an interrupted copy leaves all as it was.
func TestPlainDetachCancelled(t *testing.T) {
	b := newPlainBed(t, `mkdir d; for i in 1 2 3; do echo $i > d/$i; done`)
	cancel := make(chan struct{})
	close(cancel)
	before := b.tree()
	if err := b.Detach(merge.RootIno, "d", cancel); !errors.Is(err, unix.EINTR) {
		t.Errorf("Detach: %v", err)
	}
	if got := b.tree(); !slices.Equal(got, before) {
		t.Errorf("the union shows %q, want %q", got, before)
	}
}

// TestPlainLinks: all names that a lower file has are there for others to see,
// and stay one file.
func TestPlainLinks(t *testing.T) {
	b := newPlainBed(t, `mkdir d gone; echo data > d/a; ln d/a d/b; ln d/a c; ln d/a gone/x`)
	b.must(b.Unlink(b.ino("gone"), "x"))
	b.must(b.Rmdir(merge.RootIno, "gone"))
	st, err := b.stat("d/a")
	b.must(err)
	if st.Nlink != 3 {
		t.Errorf("%d links after one of four was removed", st.Nlink)
	}
	b.wantUpper("gone w")
	_, err = b.Write(st.Ino, []byte("DA"), 0, cow.How{})
	b.must(err)
	b.wantUpper(`c "DAta\n"`, "d", `d/a "DAta\n"`, `d/b "DAta\n"`, "gone w")
	b.reopen()
	for _, name := range []string{"c", "d/a", "d/b"} {
		now, err := b.stat(name)
		b.must(err)
		if now.Ino != st.Ino || now.Nlink != 3 || b.read(name) != "DAta\n" {
			t.Errorf("%s: number %d, %d links, %q", name, now.Ino, now.Nlink, b.read(name))
		}
	}
	b.must(b.Unlink(merge.RootIno, "c"))
	b.must(b.Unlink(b.ino("d"), "a"))
	b.must(b.Unlink(b.ino("d"), "b"))
	b.wantUpper("c w", "d", "d/a w", "d/b w", "gone w")
}

// TestPlainUnlinkCopiesNothing: removing the last of several names by and by
// needs no copy of the data.
func TestPlainUnlinkCopiesNothing(t *testing.T) {
	b := newPlainBed(t, `echo data > a; ln a b`)
	ino := b.ino("a")
	b.Remember(ino)
	b.must(b.Unlink(merge.RootIno, "a"))
	b.must(b.Unlink(merge.RootIno, "b"))
	var st cow.Stat
	b.must(b.Getattr(ino, &st))
	if st.Nlink != 0 {
		t.Errorf("%d links of a file without a name", st.Nlink)
	}
	b.Forget(ino, 1)
	b.wantUpper("a w", "b w")
}

// TestHostOwners: without an owner attribute the owner on disk counts.
func TestHostOwners(t *testing.T) {
	b := newPlainBed(t, `echo data > f`)
	b.must(b.Close())
	b.o.Root, b.o.HostOwners = false, true
	b.must(os.WriteFile(filepath.Join(b.upper, "mine"), nil, 0o644))
	b.must(os.Chown(filepath.Join(b.upper, "mine"), 1234, 1234))
	b.open()
	st, err := b.stat("mine")
	b.must(err)
	if st.UID != 1234 || st.GID != 1234 {
		t.Errorf("owner %d:%d", st.UID, st.GID)
	}
}

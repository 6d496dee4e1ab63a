package dirlower_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge"
)

// needRoot skips what only root can set up: devices and trusted attributes.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// paths lists every path of a tree; what is listed but refused is marked.
func paths(t *testing.T, l merge.Lower) string {
	t.Helper()
	var out []string
	var walk func(ino merge.Ino, path string)
	walk = func(ino merge.Ino, path string) {
		var entries []merge.Entry
		if err := l.ReadDir(ino, 0, func(e merge.Entry) bool { entries = append(entries, e); return true }); err != nil {
			t.Fatalf("list %s: %v", path, err)
		}
		for _, e := range entries {
			child, err := l.Lookup(ino, e.Name)
			if err != nil {
				out = append(out, path+e.Name+"!")
				continue
			}
			out = append(out, path+e.Name)
			if e.Type == unix.S_IFDIR {
				walk(child, path+e.Name+"/")
			}
		}
	}
	walk(merge.RootIno, "")
	return strings.Join(out, " ")
}

// TestWhiteoutForms hides the same things in every way there is.
func TestWhiteoutForms(t *testing.T) {
	needRoot(t)
	const under = "mkdir -p d/sub e; echo x > f; echo x > d/g; echo x > d/sub/h; echo x > e/i; echo x > kept"
	for name, c := range map[string]struct{ over, want string }{
		"device":          {"mkdir d; mknod f c 0 0; mknod e c 0 0; mknod d/g c 0 0", "d d/sub d/sub/h kept"},
		"name":            {"mkdir d; touch .wh.f .wh.e d/.wh.g", "d d/sub d/sub/h kept"},
		"name of nothing": {"touch .wh.nothing .wh. .wh..wh.plnk", "d d/g d/sub d/sub/h e e/i f kept"},
		"name beside what it names": {
			"mkdir d; touch .wh.d .wh.f; echo new > f; echo new > d/new", "d d/new e e/i f kept",
		},
		"attribute": {
			`setfattr -n trusted.overlay.opaque -v x .; mkdir d; setfattr -n trusted.overlay.opaque -v x d; touch f e d/g
setfattr -n trusted.overlay.whiteout f; setfattr -n user.overlay.whiteout e; setfattr -n trusted.overlay.whiteout -v y d/g`,
			"d d/sub d/sub/h kept",
		},
		"opaque":                        {"mkdir d; setfattr -n trusted.overlay.opaque -v y d", "d e e/i f kept"},
		"opaque without privilege":      {"mkdir d; setfattr -n user.overlay.opaque -v y d", "d e e/i f kept"},
		"opaque by old fuse-overlayfs":  {"mkdir d; setfattr -n user.fuseoverlayfs.opaque -v y d", "d e e/i f kept"},
		"opaque by name":                {"mkdir d; touch d/.wh..wh..opq; echo > d/new", "d d/new e e/i f kept"},
		"opaque root":                   {"touch .wh..wh..opq; echo > only", "only"},
		"opaque that is nothing":        {"mkdir d; setfattr -n trusted.overlay.opaque -v no d", "d d/g d/sub d/sub/h e e/i f kept"},
		"file over folder":              {"echo > d; echo > e", "d e f kept"},
		"folder over file":              {"mkdir f; echo > f/new", "d d/g d/sub d/sub/h e e/i f f/new kept"},
		"character device that is none": {"mknod f c 1 3", "d d/g d/sub d/sub/h e e/i f kept"},
	} {
		t.Run(name, func(t *testing.T) {
			d := dirs(t, "over", "under", "below")
			sh(t, d[0], c.over)
			sh(t, d[1], under)
			tree := open(t, dirlower.Options{Dirs: d, Root: true})
			for _, missing := range []string{"f", "d/g", "e", "nothing", ".wh.f", "d/.wh..wh..opq"} {
				_, err := lookup(tree, missing) // before anything is listed
				if found := slices.Contains(strings.Fields(c.want), missing); found != (err == nil) {
					t.Errorf("%s: %v", missing, err)
				}
			}
			if got := paths(t, tree); got != c.want {
				t.Errorf("shows %s\n want %s", got, c.want)
			}
		})
	}
}

// TestRedirects follows those that make sense, and no symbolic link.
func TestRedirects(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	sh(t, outside, "echo secret > secret; mkdir sub")
	under := "mkdir -p a/b c; echo x > a/b/f; echo x > a/g; ln -s " + outside + " out; ln -s a link; echo data > c/data"
	for redirect, want := range map[string]string{
		"/a": "b b/f g", "/a/b": "f", "a": "b b/f g", "c": "data",
		"/none": "", "none": "", "/a/b/f": "", "/out": "", "out": "", "/out/sub": "", "/link": "", "/link/b": "",
		"/": "!", "//a": "!", "/a/": "!", "/a//b": "!", "../a": "!", "..": "!", ".": "!", "a/b": "!", "/../a": "!", "/a/../c": "!",
	} {
		t.Run(redirect, func(t *testing.T) {
			d := dirs(t, "over", "under")
			sh(t, d[0], "mkdir r; setfattr -n trusted.overlay.redirect -v '"+redirect+"' r")
			sh(t, d[1], under)
			tree := open(t, dirlower.Options{Dirs: d, Root: true})
			ino, err := tree.Lookup(merge.RootIno, "r")
			if want == "!" {
				if !errors.Is(err, unix.EINVAL) {
					t.Errorf("%v, want EINVAL", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range strings.Fields(paths(t, tree)) {
				if rest, ok := strings.CutPrefix(p, "r/"); ok {
					got = append(got, rest)
				}
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("shows %q, want %q (%x)", s, want, ino)
			}
		})
	}
}

// TestUserAttributesLeadNowhere: to a union with privilege, a redirect or
// metacopy that any owner of a file can write shows nothing of others.
func TestUserAttributesLeadNowhere(t *testing.T) {
	needRoot(t)
	d := dirs(t, "over", "under")
	sh(t, d[0], `mkdir mine; setfattr -n user.overlay.redirect -v /root mine; truncate -s 7 file
setfattr -n user.overlay.redirect -v /root/secret file; setfattr -n user.overlay.metacopy file`)
	sh(t, d[1], "mkdir -m 700 root; echo secret > root/secret; chmod 600 root/secret")
	tree := open(t, dirlower.Options{Dirs: d, Root: true})
	if got := paths(t, tree); got != "file mine root root/secret" {
		t.Errorf("shows %s", got)
	}
	if got, err := content(tree, find(t, tree, "file")); got != "\x00\x00\x00\x00\x00\x00\x00" || err != nil {
		t.Errorf("file reads %q, %v", got, err)
	}
	// Where everything is one user's, they are what they are for the kernel.
	tree = open(t, dirlower.Options{Dirs: d})
	if got, err := content(tree, find(t, tree, "file")); got != "secret\n" || err != nil {
		t.Errorf("file reads %q, %v", got, err)
	}
}

// TestSameFolderTwice has redirects show one lower folder in two places: two
// folders of the union never have one number.
func TestSameFolderTwice(t *testing.T) {
	needRoot(t)
	d := dirs(t, "over", "under")
	sh(t, d[0], "mkdir x y; for r in x y; do setfattr -n trusted.overlay.redirect -v /a $r; done")
	sh(t, d[1], "mkdir -p a/sub/deep; echo f > a/sub/f")
	var before []merge.Ino
	for range 2 {
		tree := open(t, dirlower.Options{Dirs: d, Root: true})
		var numbers []merge.Ino
		for _, p := range []string{"a/sub", "x/sub", "y/sub"} {
			numbers = append(numbers, find(t, tree, p))
			if _, err := tree.Lookup(numbers[len(numbers)-1], "deep"); err != nil {
				t.Errorf("%s/deep: %v", p, err)
			}
		}
		if numbers[0] == numbers[1] || numbers[1] == numbers[2] || numbers[0] == numbers[2] {
			t.Errorf("numbers %x", numbers)
		}
		if before != nil && !slices.Equal(before, numbers) {
			t.Errorf("numbers %x, before %x", numbers, before)
		}
		before = numbers
		if find(t, tree, "a/sub/f") != find(t, tree, "y/sub/f") {
			t.Error("one file has two numbers")
		}
	}
}

// TestBelowNeverLeaves tries to leave a folder by a path.
func TestBelowNeverLeaves(t *testing.T) {
	d := dirs(t, "in", "outside")
	sh(t, d[0], "mkdir -p a/b; echo x > a/b/f; ln -s ../outside out; ln -s a link; ln -s /etc etc")
	fd, err := unix.Open(d[0], unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	long := strings.Repeat("a/", 3000)
	for name, open := range map[string]func(int, string, int) (int, error){"openat2": dirlower.OpenBelow, "walk": dirlower.WalkBelow} {
		for path, want := range map[string]bool{
			"a": true, "a/b": true, "a/b/f": true, "link": false, "link/b": false, "out": false, "etc/passwd": false,
			"..": false, "../outside": false, "a/../../outside": false, "/etc": false, long: false,
		} {
			got, err := open(fd, path, unix.O_RDONLY|unix.O_NOFOLLOW)
			if (err == nil) != want {
				t.Errorf("%s of %.20q: %v", name, path, err)
			}
			if err == nil {
				unix.Close(got)
			}
		}
	}
}

// TestOverlap refuses layers that would be seen twice.
func TestOverlap(t *testing.T) {
	d := dirs(t, "a", "a/b/c", "d")
	for _, c := range []struct {
		dirs []string
		want error
	}{
		{[]string{d[0], d[2]}, nil},
		{[]string{d[0], d[1]}, dirlower.ErrOverlap},
		{[]string{d[1], d[2], d[0]}, dirlower.ErrOverlap},
		{[]string{d[2], d[2] + "/."}, dirlower.ErrOverlap},
		{nil, dirlower.ErrDirs},
		{slices.Repeat(d[:1], 501), dirlower.ErrDirs},
		{[]string{d[2] + "/none"}, unix.ENOENT},
	} {
		tree, err := dirlower.Open(dirlower.Options{Dirs: c.dirs})
		if !errors.Is(err, c.want) {
			t.Errorf("%d folders: %v, want %v", len(c.dirs), err, c.want)
		}
		if err == nil {
			tree.Close()
		}
	}
}

// TestManyLayers stacks as many layers as can be.
func TestManyLayers(t *testing.T) {
	var names []string
	for i := range dirlower.MaxDirs {
		names = append(names, fmt.Sprint("layer", i))
	}
	d := dirs(t, names...)
	for i, dir := range d {
		own := filepath.Join(dir, "all", fmt.Sprint("own", i))
		if err := os.MkdirAll(own, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{filepath.Join(own, "f"), filepath.Join(dir, "top")} {
			if err := os.WriteFile(path, fmt.Append(nil, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if i%100 == 99 {
			os.WriteFile(filepath.Join(dir, "all", fmt.Sprint(".wh.own", i+1)), nil, 0o644)
		}
	}
	tree := open(t, dirlower.Options{Dirs: d})
	all := find(t, tree, "all")
	if n := tree.Layers(all); n != len(d) {
		t.Errorf("the folder that all have is looked for in %d layers", n)
	}
	for _, i := range []int{0, 7, 250, 499} {
		ino := find(t, tree, fmt.Sprint("all/own", i))
		if n := tree.Layers(ino); n != 1 {
			t.Errorf("a folder that one layer has is looked for in %d", n)
		}
		if got, err := content(tree, find(t, tree, fmt.Sprintf("all/own%d/f", i))); got != fmt.Sprint(i) || err != nil {
			t.Errorf("layer %d: %q, %v", i, got, err)
		}
	}
	if got, _ := content(tree, find(t, tree, "top")); got != "0" {
		t.Errorf("on top is layer %s", got)
	}
	for _, name := range []string{"own100", "own400", "none"} {
		if _, err := tree.Lookup(all, name); err != merge.ErrNotExist {
			t.Errorf("%s: %v", name, err)
		}
	}
	var a merge.Attr
	if err := tree.Attr(all, &a); err != nil || a.Nlink != 2+500-4 {
		t.Errorf("%d links, %v", a.Nlink, err)
	}
}

package layer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
	"unio/whiteout"
)

// handmade is an upper built file by file, for what overlayfs cannot make.
type handmade struct {
	t               testing.TB
	lowerDir, upper string
	work, want      string
	lower           *hostLower
	root            bool
	names           whiteout.Xattrs
}

// sameTime makes all times equal, so that only what a case is about differs.
const sameTime = `find . -depth -exec touch -h -d '2020-01-01 UTC' {} +`

func newHandmade(t testing.TB, root bool) *handmade {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	h := &handmade{t: t, root: root, names: whiteout.XattrsFor(root)}
	for p, name := range map[*string]string{&h.lowerDir: "lower", &h.upper: "upper", &h.work: "work", &h.want: "want"} {
		*p = filepath.Join(dir, name)
		must(t, os.Mkdir(*p, 0o755))
	}
	must(t, os.Mkdir(filepath.Join(h.work, "hub"), 0o700))
	shell(t, h.lowerDir, baseTree+sameTime)
	shell(t, h.want, "cp -a ../lower/. .")
	h.lower = newHostLower(t, h.lowerDir)
	return h
}

func (h *handmade) up() Upper { return Upper{Dir: h.upper, Work: h.work, Root: h.root} }

// sh runs a script in the upper.
func (h *handmade) sh(script string) { h.t.Helper(); shell(h.t, h.upper, script) }

func (h *handmade) set(path, attr, value string) {
	h.t.Helper()
	must(h.t, unix.Lsetxattr(filepath.Join(h.upper, path), attr, []byte(value), 0))
}

// origin says that path was copied up from a path of the lower.
func (h *handmade) origin(path, from string) {
	h.t.Helper()
	h.set(path, h.names.Origin, h.number(from))
}

func (h *handmade) number(path string) string {
	h.t.Helper()
	return strconv.FormatUint(uint64(h.lower.ino(h.t, path)), 10)
}

// copyUp copies files of the lower up with all their attributes.
func (h *handmade) copyUp(paths ...string) {
	h.t.Helper()
	for _, p := range paths {
		shell(h.t, h.lowerDir, "tar c --xattrs --xattrs-include='*' --no-recursion '"+p+"' | tar x --xattrs --xattrs-include='*' -C ../upper")
		h.origin(p, "/"+p)
	}
}

// toHub copies a file up into the link hub, and links it to path unless that
// is "".
func (h *handmade) toHub(from, path string) string {
	h.t.Helper()
	hub := "../work/hub/" + h.number("/"+from)
	h.sh("cp -a ../lower/" + from + " " + hub)
	h.set(hub, h.names.Origin, h.number("/"+from))
	h.set(hub, h.names.Nlink, "3")
	if path != "" {
		h.sh("ln " + hub + " " + path)
	}
	return hub
}

// check compares the layer with the wanted tree.
func (h *handmade) check(wantScript, diff string) {
	h.t.Helper()
	h.sh(sameTime)
	shell(h.t, h.upper, "find ../work/hub -type f -exec touch -h -d '2020-01-01 UTC' {} +")
	shell(h.t, h.want, wantScript+"\n"+sameTime)
	got := checkLayer(h.t, h.up(), h.lowerDir, capture(h.t, h.want)).docker()
	if got != diff {
		h.t.Errorf("diff:\n%s\nwant:\n%s", got, diff)
	}
}

var handmadeCases = []struct {
	name  string
	upper func(h *handmade)
	want  string
	diff  string
}{
	{"renamed folder", func(h *handmade) {
		h.copyUp("usr")
		h.sh("mknod usr/lib c 0 0; mkdir -p usr/lib64; chmod --reference ../lower/usr/lib usr/lib64; setfattr -n trusted.note -v t usr/lib64")
		h.origin("usr/lib64", "/usr/lib")
	}, "mv usr/lib usr/lib64", "C /usr\nD /usr/lib\nA /usr/lib64\nA /usr/lib64/a.so\nA /usr/lib64/b.so\nA /usr/lib64/c.so\nA /usr/lib64/deep\n" +
		"A /usr/lib64/deep/d.so\nA /usr/lib64/deep/er\nA /usr/lib64/deep/er/x"},
	{
		"renamed folder with changes", func(h *handmade) {
			h.sh("mkdir new; mknod new/c.so c 0 0; mkdir new/deep; echo n > new/deep/n; mkdir -p usr; mknod usr/lib c 0 0")
			h.origin("new", "/usr/lib")
			h.origin("new/deep", "/usr/lib/deep")
		}, "mv usr/lib new; setfattr -x trusted.note new; rm new/c.so; echo n > new/deep/n",
		"A /new\nA /new/a.so\nA /new/b.so\nA /new/deep\nA /new/deep/d.so\nA /new/deep/er\nA /new/deep/er/x\nA /new/deep/n\nC /usr\nD /usr/lib",
	},
	{"one of a file's names in a renamed folder", func(h *handmade) {
		h.sh("mkdir -p usr/lib new; setfattr -n trusted.note -v t usr/lib; mknod usr/lib/deep c 0 0")
		h.origin("new", "/usr/lib/deep")
	}, "mv usr/lib/deep new", "A /new\nA /new/d.so\nA /new/er\nA /new/er/x\nC /usr\nC /usr/lib\nD /usr/lib/deep"},
	{"exchanged folders", func(h *handmade) {
		h.sh("mkdir etc var")
		h.origin("etc", "/var")
		h.origin("var", "/etc")
	}, "mv etc x; mv var etc; mv x var", "C /etc\nD /etc/conf.d\nA /etc/log\nA /etc/log/log\nD /etc/passwd\nA /etc/sparse\n" +
		"C /var\nA /var/conf.d\nA /var/conf.d/one\nA /var/conf.d/two\nD /var/log\nA /var/passwd\nD /var/sparse"},
	{"redirect, relative and absolute", func(h *handmade) {
		h.sh("mkdir e2; mkdir -p usr; mkdir usr/log; mknod etc c 0 0; mkdir var; mknod var/log c 0 0")
		h.set("e2", h.names.Redirect, "etc")
		h.set("usr/log", h.names.Redirect, "/var/log")
	}, "mv etc e2; mv var/log usr/log", "A /e2\nA /e2/conf.d\nA /e2/conf.d/one\nA /e2/conf.d/two\nA /e2/passwd\nD /etc\n" +
		"C /usr\nA /usr/log\nA /usr/log/log\nC /var\nD /var/log"},
	{"origin goes before redirect", func(h *handmade) {
		h.sh("mkdir e2; mknod etc c 0 0")
		h.set("e2", h.names.Redirect, "/var")
		h.origin("e2", "/etc")
	}, "mv etc e2", "A /e2\nA /e2/conf.d\nA /e2/conf.d/one\nA /e2/conf.d/two\nA /e2/passwd\nD /etc"},
	{"origins that make no sense", func(h *handmade) {
		h.sh("mkdir etc var usr; echo 1 > etc/x; echo 2 > var/y; echo 3 > usr/z")
		h.set("etc", h.names.Origin, "x")
		h.set("var", h.names.Origin, "99999")
		h.origin("usr", "/etc/passwd")
		h.sh(": > ../work/hub/99999; : > ../work/hub/x; mkdir ../work/hub/1; echo no > ../work/hub/" + h.number("/usr/lib/a.so"))
		h.set("../work/hub/"+h.number("/usr/lib/a.so"), h.names.Nlink, "0")
	}, "echo 1 > etc/x; echo 2 > var/y; echo 3 > usr/z", "C /etc\nA /etc/x\nC /usr\nA /usr/z\nC /var\nA /var/y"},
	{"opaque folder", func(h *handmade) {
		h.sh("mkdir etc; echo other > etc/passwd; mknod etc/conf.d c 0 0; mknod etc/ghost c 0 0")
		h.set("etc", h.names.Opaque, "y")
	}, "rm -r etc; mkdir etc; echo other > etc/passwd", "C /etc\nD /etc/conf.d\nC /etc/passwd"},
	{"opaque root", func(h *handmade) {
		h.sh("mkdir etc; echo only > etc/only")
		h.set(".", h.names.Opaque, "y")
	}, "rm -r *; mkdir etc; echo only > etc/only", "D /dangling\nD /disk\nD /empty\nD /eq1\nD /eq2\nC /etc\nD /etc/conf.d\nA /etc/only\nD /etc/passwd\n" +
		"D /lib\nD /null\nD /pipe\nD /usr\nD /var"},
	{"whiteout of nothing", func(h *handmade) {
		h.sh("mkdir -p etc new; mknod etc/ghost c 0 0; mknod new/ghost c 0 0; mknod ghost c 0 0")
	}, "mkdir new", "A /new"},
	{"whiteouts by attribute", func(h *handmade) {
		h.sh("mkdir etc; : > etc/passwd; : > null; mkdir etc/conf.d; : > etc/conf.d/one")
		h.set("etc", h.names.Opaque, "x")
		h.set("etc/passwd", h.names.Whiteout, "y")
		h.set("null", h.names.Whiteout, "")
	}, "rm etc/passwd null; : > etc/conf.d/one", "C /etc\nC /etc/conf.d\nC /etc/conf.d/one\nD /etc/passwd\nD /null"},
	{"all names of a file through the hub", func(h *handmade) {
		h.sh("mkdir -p usr/lib; setfattr -n trusted.note -v t usr/lib")
		h.sh("chmod 600 " + h.toHub("usr/lib/a.so", "usr/lib/c.so"))
	}, "chmod 600 usr/lib/a.so", "C /usr\nC /usr/lib\nC /usr/lib/a.so\nC /usr/lib/c.so\nC /usr/lib/deep\nC /usr/lib/deep/d.so"},
	{
		"names removed and added, through the hub", func(h *handmade) {
			h.sh("mkdir -p usr/lib; setfattr -n trusted.note -v t usr/lib; mknod usr/lib/a.so c 0 0")
			h.sh("echo more >> " + h.toHub("usr/lib/a.so", "zz"))
		}, "echo more >> usr/lib/a.so; ln usr/lib/a.so zz; rm usr/lib/a.so",
		"C /usr\nC /usr/lib\nD /usr/lib/a.so\nC /usr/lib/c.so\nC /usr/lib/deep\nC /usr/lib/deep/d.so\nA /zz",
	},
	{
		"a name replaced, through the hub", func(h *handmade) {
			h.sh("mkdir -p usr/lib; setfattr -n trusted.note -v t usr/lib; echo own > usr/lib/a.so; mkdir usr/lib/deep")
			h.set("usr/lib/deep", h.names.Opaque, "y")
			h.sh("chmod 600 " + h.toHub("usr/lib/a.so", ""))
		}, "chmod 600 usr/lib/c.so; rm -r usr/lib/deep; mkdir usr/lib/deep; rm usr/lib/a.so; echo own > usr/lib/a.so",
		"C /usr\nC /usr/lib\nC /usr/lib/a.so\nC /usr/lib/c.so\nC /usr/lib/deep\nD /usr/lib/deep/d.so\nD /usr/lib/deep/er",
	},
	{"hub file that did not change", func(h *handmade) {
		h.sh("mkdir -p usr/lib; setfattr -n trusted.note -v t usr/lib")
		h.toHub("usr/lib/a.so", "usr/lib/c.so")
	}, "", ""},
	{"new name of a hub file that did not change", func(h *handmade) {
		h.toHub("usr/lib/a.so", "new")
	}, "ln usr/lib/a.so new", "A /new"},
	{"hub and a renamed folder", func(h *handmade) {
		h.sh("mkdir new; setfattr -n trusted.note -v t new; mkdir usr; mknod usr/lib c 0 0")
		h.origin("new", "/usr/lib")
		h.sh("chmod 640 " + h.toHub("usr/lib/a.so", "direct"))
	}, "mv usr/lib new; chmod 640 new/a.so; ln new/a.so direct", "A /direct\nA /new\nA /new/a.so\nA /new/b.so\nA /new/c.so\nA /new/deep\n" +
		"A /new/deep/d.so\nA /new/deep/er\nA /new/deep/er/x\nC /usr\nD /usr/lib"},
	{"metadata only, through the hub", func(h *handmade) {
		hub := h.toHub("usr/lib/a.so", "")
		h.sh("truncate -s 0 " + hub + "; truncate -s 4 " + hub + "; chown 7:8 " + hub)
		h.set(hub, h.names.Metacopy, "")
	}, "chown 7:8 usr/lib/a.so", "C /usr\nC /usr/lib\nC /usr/lib/a.so\nC /usr/lib/c.so\nC /usr/lib/deep\nC /usr/lib/deep/d.so"},
	{
		"metadata only, elsewhere", func(h *handmade) {
			h.sh("truncate -s 320K moved; truncate -s 200002 cut; truncate -s 400K longer; truncate -s 4 etcp; chmod 644 *; mkdir var; mknod var/sparse c 0 0")
			for _, p := range []string{"moved", "cut", "longer"} {
				h.set(p, h.names.Metacopy, "")
				h.origin(p, "/var/sparse")
			}
			h.sh("rm etcp")
		}, "cp var/sparse moved; cp var/sparse cut; truncate -s 200002 cut; mv var/sparse longer; truncate -s 400K longer",
		"A /cut\nA /longer\nA /moved\nC /var\nD /var/sparse",
	},
	{"copied up as it was", func(h *handmade) {
		h.copyUp("etc", "etc/passwd", "lib", "null", "pipe", "empty", "usr", "usr/lib", "usr/lib/deep", "usr/lib/deep/er", "usr/lib/deep/er/x")
	}, "", ""},
	{"labels of the host", func(h *handmade) {
		h.copyUp("etc", "etc/passwd")
		h.set("etc/passwd", "security.selinux", "system_u:object_r:etc_t:s0")
	}, "", ""},
	{"capabilities, lists, foreign bookkeeping", func(h *handmade) {
		h.sh("cp ../lower/var/log/log new; setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= new; setfacl -m u:9:r new")
		h.set("new", "trusted.overlay.overlay.opaque", "y")
		h.set("new", "trusted.overlay.origin", "secret")
		h.set("new", "trusted.overlay.uuid", "secret")
		h.set("new", "trusted.mine", "\x00\xff binary\n=")
		h.set("new", whiteout.OverrideStat, "1:2:0777")
	}, "cp var/log/log new; setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= new; setfacl -m u:9:r new\n" +
		"setfattr -n trusted.overlay.opaque -v y new; setfattr -n trusted.mine -v 0sAP8gYmluYXJ5Cj0= new\n" +
		"setfattr -n user.containers.override_stat -v 1:2:0777 new", "A /new"},
}

func TestHandmadeUppers(t *testing.T) {
	for _, c := range handmadeCases {
		t.Run(c.name, func(t *testing.T) {
			h := newHandmade(t, true)
			c.upper(h)
			h.check(c.want, c.diff)
		})
	}
}

func TestUnprivilegedUpper(t *testing.T) {
	h := newHandmade(t, false)
	h.sh("mkdir d; for f in dev blk pipe2 own suid plain; do : > d/$f; done; ln -s ../etc/passwd d/link; printf abc > d/own; mkdir d/sub")
	for name, value := range map[string]string{
		"d/dev": "0:0:0666:char-1-3", "d/blk": "0:6:0660:block-259-1048575", "d/pipe2": "1:2:0600:pipe",
		"d/own": "4294967294:100000:640", "d/suid": "0:0:4755:file", "d/sub": "5:6:2750:dir",
	} {
		h.set(name, whiteout.OverrideStat, value)
	}
	h.sh("mknod null c 0 0; : > disk")
	h.set("disk", h.names.Whiteout, "")
	h.check(`mkdir d; cd d; mknod dev c 1 3; chmod 666 dev; mknod blk b 259 1048575; chmod 660 blk; chown 0:6 blk
		mkfifo pipe2; chmod 600 pipe2; chown 1:2 pipe2; ln -s ../etc/passwd link
		printf abc > own; chown 4294967294:100000 own; chmod 640 own; : > suid; chmod 4755 suid; : > plain; mkdir sub; chown 5:6 sub; chmod 2750 sub
		cd ..; rm null disk`,
		"A /d\nA /d/blk\nA /d/dev\nA /d/link\nA /d/own\nA /d/pipe2\nA /d/plain\nA /d/sub\nA /d/suid\nD /disk\nD /null")
}

func TestSockets(t *testing.T) {
	h := newHandmade(t, true)
	h.sh("mkdir etc run")
	for _, p := range []string{"run/new", "etc/passwd"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(h.upper, p), Net: "unix"})
		must(t, err)
		defer l.Close()
	}
	h.check("mkdir run; rm etc/passwd", "C /etc\nC /etc/passwd\nA /run\nA /run/new")
}

func TestReservedNames(t *testing.T) {
	for _, name := range []string{".wh.x", ".wh.", ".wh..wh..opq"} {
		h := newHandmade(t, true)
		h.sh("mkdir etc; echo x > etc/" + name)
		c, err := Diff(context.Background(), h.up(), h.lower)
		must(t, err)
		if want := "C /etc\nA /etc/" + name; c.docker() != want {
			t.Errorf("diff:\n%s\nwant:\n%s", c.docker(), want)
		}
		var b bytes.Buffer
		if err := c.WriteTar(context.Background(), &b); !errors.Is(err, ErrReservedName) || b.Len() > 0 {
			t.Errorf("layer of %s: %v, %d bytes", name, err, b.Len())
		}
		if err := WriteMerged(context.Background(), h.up(), h.lower, &b); !errors.Is(err, ErrReservedName) {
			t.Errorf("export of %s: %v", name, err)
		}
	}
}

func TestDamagedUppers(t *testing.T) {
	cases := []struct {
		name string
		make func(h *handmade)
		want error
	}{
		{"no data", func(h *handmade) { h.sh(": > x"); h.set("x", h.names.Metacopy, "") }, merge.ErrCorrupt},
		{"data of a folder", func(h *handmade) { h.sh(": > etc"); h.set("etc", h.names.Metacopy, "") }, merge.ErrCorrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHandmade(t, true)
			c.make(h)
			if _, err := Diff(context.Background(), h.up(), h.lower); !errors.Is(err, c.want) {
				t.Errorf("Diff: %v, want %v", err, c.want)
			}
		})
	}
}

func TestOverrideStatSyntax(t *testing.T) {
	for _, bad := range []string{"", "1", "1:2", "x:2:3", "1:2:9", "1:2:3:4:5", "4294967296:0:0", "1:2:3:door", "1:2:3:char-x-1", "1:2:3:block-1"} {
		a := merge.Attr{Mode: unix.S_IFREG | 0o640, UID: 5}
		if overrideStat(&a, bad) || a.Mode != unix.S_IFREG|0o640 || a.UID != 5 {
			t.Errorf("override_stat %q was taken: %+v", bad, a)
		}
	}
}

// TestOwnUser checks that the files of a union without privilege are the root
// user's unless they say otherwise.
func TestOwnUser(t *testing.T) {
	r := upperReader{uid: 1000, gid: 100}
	for _, c := range []struct{ uid, gid, wantUID, wantGID uint32 }{{1000, 100, 0, 0}, {1000, 5, 0, 5}, {0, 100, 0, 0}, {7, 7, 7, 7}} {
		a := merge.Attr{UID: c.uid, GID: c.gid}
		if r.mapOwner(&a); a.UID != c.wantUID || a.GID != c.wantGID {
			t.Errorf("%d:%d shows as %d:%d", c.uid, c.gid, a.UID, a.GID)
		}
	}
}

// TestDeepTree has paths far longer than the system's calls take.
func TestDeepTree(t *testing.T) {
	needRoot(t)
	const depth = 1200
	upper := t.TempDir()
	fd, err := fsat.OpenRoot(upper)
	must(t, err)
	want := ""
	for range depth {
		must(t, fsat.Mkdir(fd, "folder", 0o755))
		sub, err := fsat.OpenDir(fd, "folder")
		must(t, err)
		must(t, fsat.Close(fd))
		fd, want = sub, want+"folder/"
	}
	must(t, fsat.Mknod(fd, "file", unix.S_IFREG|0o644, 0))
	must(t, fsat.Close(fd))
	_, b := layerOf(t, Upper{Dir: upper, Root: true}, newHostLower(t, t.TempDir()))
	names := tarNames(t, b)
	if got := names[len(names)-1]; got != want+"file" {
		t.Errorf("%d names, the last of %d bytes", len(names), len(got))
	}
}

func TestNoUpper(t *testing.T) {
	h := newHandmade(t, true)
	if _, err := Diff(context.Background(), Upper{Dir: filepath.Join(h.upper, "none")}, h.lower); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Diff of a missing upper: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Diff(ctx, h.up(), h.lower); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Diff: %v", err)
	}
	if err := WriteTree(ctx, h.lower, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled WriteTree: %v", err)
	}
}

package layer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// overlay is a union by the kernel's overlayfs over a lower that a shell
// script made.
type overlay struct {
	lower, upper, work, merged string
	user                       bool // bookkeeping in user.*
	mounted                    bool
}

func newOverlay(t testing.TB, lowerScript, options string) *overlay {
	t.Helper()
	needRoot(t)
	// t.TempDir would carry commas of the test's name into the mount options.
	dir, err := os.MkdirTemp("", "unio-overlay")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	o := &overlay{user: strings.Contains(options, "userxattr")}
	for p, name := range map[*string]string{&o.lower: "lower", &o.upper: "upper", &o.work: "work", &o.merged: "merged"} {
		*p = filepath.Join(dir, name)
		must(t, os.Mkdir(*p, 0o755))
	}
	shell(t, o.lower, lowerScript)
	// volatile: unmounting would write out the whole disk under the upper.
	data := "volatile,lowerdir=" + o.lower + ",upperdir=" + o.upper + ",workdir=" + o.work
	if options != "" {
		data += "," + options
	}
	// nodev: no test may reach a device of the host through a node it made.
	if err := unix.Mount("overlay", o.merged, "overlay", unix.MS_NODEV|unix.MS_NOSUID, data); err != nil {
		t.Fatalf("mount overlay with %s: %v", data, err)
	}
	o.mounted = true
	t.Cleanup(func() { o.unmount(t) })
	return o
}

func (o *overlay) unmount(t testing.TB) {
	t.Helper()
	if o.mounted {
		must(t, unix.Unmount(o.merged, 0))
		o.mounted = false
	}
}

func (o *overlay) up() Upper { return Upper{Dir: o.upper, Work: o.work, Root: !o.user} }

// check compares what the mount shows with what the layer makes of it.
func (o *overlay) check(t testing.TB) *Changes {
	t.Helper()
	want := capture(t, o.merged)
	o.unmount(t)
	return checkLayer(t, o.up(), o.lower, want)
}

func shell(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("script %s: %v\n%s", script, err, out)
	}
}

// baseTree is a lower with one of everything.
const baseTree = `
mkdir -p etc/conf.d usr/lib/deep/er var/log empty
echo root:x:0 > etc/passwd; echo one > etc/conf.d/one; echo two > etc/conf.d/two
echo lib > usr/lib/a.so; ln -s a.so usr/lib/b.so; echo x > usr/lib/deep/er/x
ln usr/lib/a.so usr/lib/c.so; ln usr/lib/a.so usr/lib/deep/d.so
ln -s usr/lib lib; ln -s nowhere dangling
mknod null c 1 3; mknod disk b 8 1; mkfifo pipe
printf 'data' > var/log/log; chown 1000:2000 var/log/log; chmod 4755 usr/lib/deep/er/x; chmod 1777 empty
setfattr -n user.note -v hello etc/passwd; setfattr -n trusted.note -v t usr/lib
setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= usr/lib/deep/er/x
echo equal > eq1; echo equal > eq2; truncate -s 320K var/sparse; printf end | dd of=var/sparse bs=1 seek=200000 conv=notrunc 2>/dev/null
find . -depth -exec touch -h -d '2020-02-03 04:05:06.123456789 UTC' {} +
touch -h -d '1960-01-01 00:00:00 UTC' etc/conf.d/one; touch -d '2021-01-01 UTC' etc/conf.d/two
`

// overlayCases are changes made through a mount, and what docker diff says.
var overlayCases = []struct{ name, script, diff string }{
	{"nothing", `cat etc/passwd >/dev/null`, ``},
	{"add a file", `echo new > etc/new`, "C /etc\nA /etc/new"},
	{"add in the root", `echo new > new`, "A /new"},
	{"change a file", `echo more >> etc/passwd`, "C /etc\nC /etc/passwd"},
	{"same attributes again", `chmod "$(stat -c %a etc/passwd)" etc/passwd`, ``},
	{"same size and time, other data", `printf 'DATA' > var/log/log
		touch -d '2020-02-03 04:05:06.123456789 UTC' var/log/log`, "C /var\nC /var/log\nC /var/log/log"},
	{"mode", `chmod 600 etc/passwd`, "C /etc\nC /etc/passwd"},
	{"mode of a folder", `chmod 700 var/log`, "C /var\nC /var/log"},
	{"owner", `chown 4000000000:4294967294 var/log/log`, "C /var\nC /var/log\nC /var/log/log"},
	{
		"times", `touch -d '1901-12-14 00:00:00.5 UTC' etc/passwd; touch -h -d '2030-01-01 00:00:00.000000001 UTC' dangling`,
		"C /dangling\nC /etc\nC /etc/passwd",
	},
	{
		"attributes", `setfattr -n user.note -v other etc/passwd; setfattr -x trusted.note usr/lib; setfattr -n user.new -v '' var`,
		"C /etc\nC /etc/passwd\nC /usr\nC /usr/lib\nC /var",
	},
	{"access lists", `setfacl -m u:1000:rw etc/passwd; setfacl -d -m g:5:rx etc/conf.d`, "C /etc\nC /etc/conf.d\nC /etc/passwd"},
	{"remove a file", `rm etc/conf.d/one`, "C /etc\nC /etc/conf.d\nD /etc/conf.d/one"},
	{"remove a folder", `rm -r usr/lib/deep`, "C /usr\nC /usr/lib\nD /usr/lib/deep"},
	{"remove and add again", `rm etc/passwd; echo other > etc/passwd`, "C /etc\nC /etc/passwd"},
	{"folder made again, empty", `rm -r etc/conf.d; mkdir etc/conf.d`, "C /etc\nC /etc/conf.d\nD /etc/conf.d/one\nD /etc/conf.d/two"},
	{
		"folder made again, one file the same", `rm -r etc/conf.d; mkdir etc/conf.d; echo new > etc/conf.d/two`,
		"C /etc\nC /etc/conf.d\nD /etc/conf.d/one\nC /etc/conf.d/two",
	},
	{"folder made again, deep", `rm -r usr; mkdir -p usr/lib/deep; echo new > usr/lib/deep/d.so`, ""},
	{"file over folder", `rm -r etc/conf.d; echo file > etc/conf.d`, "C /etc\nC /etc/conf.d"},
	{"folder over file", `rm etc/passwd; mkdir etc/passwd; echo in > etc/passwd/in`, "C /etc\nC /etc/passwd\nA /etc/passwd/in"},
	{"folder over link to a folder", `rm lib; mkdir lib; echo in > lib/in`, "C /lib\nA /lib/in"},
	{"link over folder", `rm -r var/log; ln -s ../empty var/log`, "C /var\nC /var/log"},
	{"link over link", `ln -sfn var lib`, "C /lib"},
	{"device over file", `rm etc/passwd; mknod etc/passwd c 1 5`, "C /etc\nC /etc/passwd"},
	{"file over device", `rm null; echo no > null`, "C /null"},
	{"another device", `rm disk; mknod disk b 259 1048575`, "C /disk"},
	{"fifos", `mkfifo etc/fifo; rm pipe; echo was > pipe`, "C /etc\nA /etc/fifo\nC /pipe"},
	{"setuid, sticky", `cp var/log/log suid; chmod 6711 suid; mkdir t; chmod 3777 t`, "A /suid\nA /t"},
	{"new hard links", `echo 1 > n1; ln n1 n2; mkdir d; ln n1 d/n3`, "A /d\nA /d/n3\nA /n1\nA /n2"},
	{"another name for a lower file", `ln etc/passwd passwd2`, "A /passwd2"},
	{"change one of several names", `chmod 600 usr/lib/c.so`, "C /usr\nC /usr/lib\nC /usr/lib/c.so"},
	{"remove one of several names", `rm usr/lib/a.so`, "C /usr\nC /usr/lib\nD /usr/lib/a.so"},
	{"make two names one file", `touch e1; ln -f etc/conf.d/one etc/conf.d/two`, "A /e1\nC /etc\nC /etc/conf.d\nC /etc/conf.d/two"},
	{"make equal files one file", `ln -f eq1 eq2; touch -d '2022-01-01 UTC' .`, "C /eq1\nC /eq2"},
	{"rename a file", `mv etc/passwd etc/shadow`, "C /etc\nD /etc/passwd\nA /etc/shadow"},
	{"rename over", `mv etc/conf.d/one etc/passwd`, "C /etc\nC /etc/conf.d\nD /etc/conf.d/one\nC /etc/passwd"},
	{"long names", `n=$(printf %0255d 0); mkdir $n; echo x > $n/$n; rm usr/lib/a.so; mv etc $n/etc`, ""},
	{"strange names", "echo 1 > \"$(printf 'a\\nb')\"; echo 2 > \"$(printf 'bad\\377utf')\"; echo 3 > 'caf\xc3\xa9 '; echo 4 > ' '; echo 5 > 'wh.x'; echo 6 > .wh", ""},
	{"sparse", `truncate -s 16M s1; printf x | dd of=s1 bs=1 seek=8000000 conv=notrunc 2>/dev/null; truncate -s 500000 var/sparse`, ""},
	{"empty file, emptied file", `: > zero; : > etc/passwd`, "C /etc\nC /etc/passwd\nA /zero"},
	{"chmod of the root", `chmod 711 .`, ""},
	{"a file that came and went", `touch gone; rm gone`, ""},
	{"nested bookkeeping", `setfattr -n trusted.overlay.opaque -v y empty; setfattr -n trusted.overlay.overlay.x -v 7 etc/passwd`, ""},
}

func TestOverlayChanges(t *testing.T) {
	for _, c := range overlayCases {
		t.Run(c.name, func(t *testing.T) {
			o := newOverlay(t, baseTree, "")
			shell(t, o.merged, c.script)
			got := o.check(t).docker()
			if c.diff != "" && got != c.diff {
				t.Errorf("diff:\n%s\nwant:\n%s", got, c.diff)
			}
		})
	}
}

// TestOverlayOptions repeats the changes over uppers with renamed folders and
// metadata-only files.
func TestOverlayOptions(t *testing.T) {
	more := []struct{ name, script, diff string }{
		{"rename a folder", `mv usr/lib usr/lib64`, ""},
		{"rename a folder, change in it", `mv usr/lib usr/lib64; echo n > usr/lib64/deep/er/n; rm usr/lib64/b.so; chmod 600 usr/lib64/deep/er/x`, ""},
		{"rename, then another of the old name", `mv etc var/etc2; mkdir -p etc/conf.d; echo new > etc/conf.d/one`, ""},
		{"exchange two folders", `mv etc e; mv usr etc; mv e usr`, ""},
		{"rename inside a renamed folder", `mv usr/lib l; mv l/deep l/shallow; mv l/shallow/er er; rmdir l/shallow || true`, ""},
		{"rename over an emptied folder", `rm etc/conf.d/*; mv usr/lib etc/conf.d -T`, ""},
		{"rename away and back", `mv etc x; mv x etc`, ""},
		{"metadata, then rename", `chmod 640 etc/passwd; mv etc/passwd var/log/pw; chmod 600 var/sparse; mv var v`, ""},
		{"metadata of a large file", `chown 5 var/sparse`, "C /var\nC /var/sparse"},
	}
	for _, options := range []string{"metacopy=on,redirect_dir=on", "userxattr"} {
		for _, c := range append(more, overlayCases...) {
			if options == "userxattr" && c.name == "nested bookkeeping" {
				continue // stored as they are there
			}
			t.Run(options+"/"+c.name, func(t *testing.T) {
				o := newOverlay(t, baseTree, options)
				shell(t, o.merged, c.script)
				o.check(t)
			})
		}
	}
}

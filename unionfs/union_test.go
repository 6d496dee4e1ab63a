package unionfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lowerScript makes a lower with every type of file.
const lowerScript = `
mkdir -p etc usr/bin usr/lib/deep/er empty
echo root:x:0:0 > etc/passwd; chmod 640 etc/passwd
echo b > usr/bin/b; chmod 4755 usr/bin/b
printf 'lib\n%.0s' {1..5000} > usr/lib/big
echo deep > usr/lib/deep/er/file
ln -s ../usr/lib etc/lib
ln usr/bin/b usr/bin/c; ln usr/bin/b usr/lib/d
mkfifo etc/fifo; mknod etc/null c 1 3; mknod etc/disk b 8 0
truncate -s 1M usr/lib/sparse; echo end >> usr/lib/sparse
setfattr -n user.color -v blue etc/passwd; setfattr -n trusted.secret -v x usr/lib
chown -h 12:34 etc/lib; chown 1000:1000 usr/lib/big
touch -d '1969-07-20 20:17:40.123456789' usr/lib/big
find . -depth -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
`

func TestReadOnlyShowsTheLower(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(true)
	r.equal("tree", r.tree(r.dir), r.tree(r.lower))
	r.equal("xattr", r.run("getfattr -dm- etc/passwd usr/lib"), r.sh(r.lower, "getfattr -dm- etc/passwd usr/lib"))
	if out := r.fails("touch x"); !strings.Contains(out, "Read-only") {
		t.Errorf("touch: %s", out)
	}
	if _, err := os.ReadDir(filepath.Join(r.dir, "nothing")); !os.IsNotExist(err) {
		t.Errorf("missing folder: %v", err)
	}
}

// scenarios are shell scripts that must do to the union what they do to a
// plain folder, and leave the same tree after a remount.
var scenarios = map[string]string{
	"create":             `echo new > new; mkdir -p a/b/c; echo x > a/b/c/f; ln -s target a/link; mkfifo a/fifo; mknod a/dev c 5 6`,
	"append to lower":    `echo more >> etc/passwd; echo more >> usr/lib/big`,
	"overwrite lower":    `echo short > usr/lib/big`,
	"truncate lower":     `truncate -s 3 usr/lib/big; truncate -s 100K etc/passwd`,
	"chmod chown":        `chmod 600 usr/lib/big; chown 5:6 etc/passwd; chmod 2755 usr; chown -h 7:8 etc/lib; chmod 4711 etc/passwd`,
	"chown clears suid":  `chown 1:1 usr/bin/b`,
	"times":              `touch -d 2001-01-01 usr/lib/big etc; touch -h -d 2002-02-02 etc/lib`,
	"xattr":              `setfattr -n user.x -v y usr/lib/big; setfattr -x user.color etc/passwd; setfattr -n user.color -v red usr`,
	"unlink":             `rm etc/passwd usr/lib/deep/er/file etc/lib etc/fifo etc/null`,
	"unlink and again":   `rm etc/passwd; echo anew > etc/passwd; rm etc/passwd; echo again > etc/passwd; rm etc/passwd`,
	"rmdir":              `rm -r usr/lib/deep; rmdir empty`,
	"rm and mkdir again": `rm -r usr/lib; mkdir usr/lib; echo only > usr/lib/only; rm -r empty; echo file > empty`,
	"file becomes dir":   `rm etc/passwd; mkdir etc/passwd; echo x > etc/passwd/x`,
	"hard links write":   `echo changed >> usr/bin/c`,
	"hard links unlink":  `rm usr/bin/b; echo x >> usr/lib/d`,
	"hard links add":     `ln usr/bin/b etc/e; rm usr/bin/c usr/bin/b; ln usr/lib/d etc/f`,
	"hard links rename":  `mv usr/bin/b etc/moved; echo y >> etc/moved; mv usr/bin/c usr/bin/b`,
	"new hard links":     `echo l > l1; ln l1 l2; ln l2 usr/lib/l3; rm l1; ln etc/passwd pw2; rm etc/passwd`,
	"rename file":        `mv etc/passwd etc/shadow; mv usr/lib/big etc/passwd; mv etc/lib usr/liblink`,
	"rename over":        `mv -f usr/lib/big etc/passwd; echo n > n; mv -f n usr/bin/b; mv -T usr/lib/deep empty`,
	"rename dir":         `mv usr/lib usr/share; echo x > usr/share/deep/new; rm usr/share/big; mkdir usr/lib; echo l > usr/lib/l`,
	"rename dir nested":  `mv usr/lib/deep etc/deep; mv etc/deep/er usr/er; echo q >> usr/er/file; mv usr usr2; mv usr2/er back; rmdir etc/deep`,
	"rename new dir":     `mkdir d; echo f > d/f; rm -r usr/lib/deep; mv d usr/lib/deep; mv usr/lib/deep d2`,
	"rename dir back":    `mv usr usr2; mv usr2 usr; mv etc/passwd p; mv p etc/passwd`,
	"sparse":             `echo x >> usr/lib/sparse; truncate -s 5M usr/lib/sparse; fallocate -p -o 0 -l 4096 usr/lib/sparse`,
	"many":               `mkdir m; for i in {1..500}; do echo $i > m/$i; done; rm m/*7; mkdir m/sub; mv m/5 m/sub/; ls m | wc -l > count`,
	"exchange": `python3 -c "
import ctypes,os
l=ctypes.CDLL(None,use_errno=True)
def x(a,b):
  assert l.renameat2(-100,a,-100,b,2)==0, os.strerror(ctypes.get_errno())
x(b'etc/passwd',b'usr/lib/big'); x(b'usr/lib/deep',b'empty'); x(b'etc',b'usr/bin/b')"`,
	"write clears suid": `chmod 777 . usr usr/bin; chown 65534:65534 usr/lib/big usr/bin/b etc/passwd; chmod 4755 usr/lib/big; chmod 6777 usr/bin/b; chmod 2777 etc/passwd
nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
stat -c %a usr/lib/big usr/bin/b etc/passwd
$nobody sh -c 'echo x >> usr/lib/big; truncate -s 1 usr/bin/b; echo y > etc/passwd'
test "$(stat -c %a usr/lib/big usr/bin/b etc/passwd | tr '\n' ' ')" = "755 777 777 "
chmod 4711 usr/lib/big; echo root >> usr/lib/big; test $(stat -c %a usr/lib/big) = 4711
$nobody chown 65534 usr/lib/big; test $(stat -c %a usr/lib/big) = 711`,
	"setgid folder": `chgrp 50 usr; chmod g+s usr; mkdir usr/sub; echo s > usr/f; mkdir usr/sub/sub`,
}

// xattrs lists every file with its attributes, a line each.
const xattrs = `find . | sort | xargs -d '\n' getfattr -hdm-`

// settle gives everything that a script made now one time, so that two runs
// compare.
const settle = `find . -newermt '-1 hour' -exec touch -h -d 2021-01-01 {} +`

func TestScenarios(t *testing.T) {
	for lower, env := range lowerKinds {
		for name, script := range scenarios {
			t.Run(lower+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, lowerScript)
				r.env = env
				r.scenario(script)
			})
		}
	}
}

// lowerKinds is what is added to a server's environment for each kind of lower.
var lowerKinds = map[string][]string{"view": nil, "folders": {foldersEnv + "=1"}}

// scenario runs a script on the union and on a copy of the lower, and compares.
func (r *rig) scenario(script string) {
	r.t.Helper()
	plain := r.t.TempDir()
	r.sh(plain, "cp -a "+r.lower+"/. . ;"+script+"\n"+settle)
	r.mount(false)
	r.run(script + "\n" + settle)
	want := r.tree(plain)
	r.equal("live", r.tree(r.dir), want)
	r.remount()
	r.equal("remounted", r.tree(r.dir), want)
	r.equal("xattr", r.run(xattrs), r.sh(plain, xattrs))
	r.run("rm -rf -- *; test -z \"$(ls -A)\"")
}

func TestOpenForWriteLeavesNoTrace(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	f, err := os.OpenFile(filepath.Join(r.dir, "etc/passwd"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out := r.sh(r.upper, "find . -mindepth 1"); out != "" {
		t.Errorf("upper holds %s", out)
	}
}

func TestMetadataCopyUpCopiesNoData(t *testing.T) {
	r := newRig(t, "dd if=/dev/urandom of=big bs=1M count=8 status=none")
	r.mount(false)
	sum := r.run("md5sum big")
	r.run("chmod 600 big; mv big moved; ln moved link")
	if kb := strings.Fields(r.sh(r.upper, "du -k moved"))[0]; len(kb) > 1 {
		t.Errorf("the upper holds %s KiB", kb)
	}
	r.remount()
	r.equal("content", r.run("md5sum < moved"), strings.Replace(sum, "big", "-", 1))
	r.run("printf X | dd of=link conv=notrunc status=none; cmp -n 1 moved <(printf X)")
	r.remount()
	r.run("cmp -i 1 moved link; test $(stat -c %s moved) = 8388608; test $(stat -c %h moved) = 2")
}

func TestInodeNumbersStay(t *testing.T) {
	for lower, env := range lowerKinds {
		t.Run(lower, func(t *testing.T) {
			r := newRig(t, lowerScript)
			r.env = env
			r.mount(false)
			numbers := "stat -c '%n %i' etc etc/passwd usr/lib usr/lib/big usr/bin/b usr/bin/c etc/lib"
			before := r.run(numbers)
			r.run("echo x >> etc/passwd; chmod 700 usr/lib etc; echo y >> usr/bin/b; chown -h 3:3 etc/lib; touch new")
			r.equal("after copy-up", r.run(numbers), before)
			fresh := r.run("stat -c %i new")
			r.run("mv usr/lib usr/x; mv usr/x usr/lib; mv new new2")
			r.equal("after rename", r.run(numbers), before)
			r.remount()
			r.equal("after remount", r.run(numbers), before)
			r.equal("new file", r.run("stat -c %i new2"), fresh)
			for line := range strings.Lines(r.run("ls -iAU etc; ls -iAU usr/lib")) {
				f := strings.Fields(line)
				if len(f) == 2 && !strings.Contains(r.run("find . -inum "+f[0]), "/"+f[1]) {
					t.Errorf("d_ino of %s is not its st_ino", f[1])
				}
			}
		})
	}
}

func TestUnlinkedFilesStayOpen(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	for _, name := range []string{"etc/passwd", "new", "usr/bin/b"} {
		f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if name == "usr/bin/b" {
			r.run("rm usr/bin/c usr/lib/d")
		}
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("after"), 0); err != nil {
			t.Errorf("%s: write: %v", name, err)
		}
		if err := f.Sync(); err != nil {
			t.Errorf("%s: sync: %v", name, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 {
			t.Errorf("%s: nlink %d, %v", name, st.Nlink, err)
		}
		if err := f.Chmod(0o600); err != nil {
			t.Errorf("%s: chmod: %v", name, err)
		}
		buf := make([]byte, 5)
		if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "after" {
			t.Errorf("%s: read %q, %v", name, buf, err)
		}
		f.Close()
	}
	time.Sleep(100 * time.Millisecond)
	if out := r.sh(r.work, "find . -type f"); out != "" {
		t.Errorf("left in the work folder: %s", out)
	}
}

// TestKilledServer checks that what was written and closed is there after the
// server was killed.
func TestKilledServer(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	r.run("echo more >> etc/passwd; mkdir d; for i in {1..200}; do echo $i > d/$i; done; mv usr/lib usr/l2; rm -r empty; sync -f .")
	want := r.tree(r.dir)
	r.kill()
	r.mount(false)
	r.equal("tree", r.tree(r.dir), want)
}

func TestWarmReadsAreFree(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	for _, warm := range []string{
		"find . -type f -exec cat {} + > /dev/null", "find . -ls > /dev/null", "ls -R > /dev/null",
		"readlink etc/lib", "! stat usr/nothing etc/lib/nothing 2>&1", "stat etc usr/lib/big etc/fifo etc/null etc/lib > /dev/null",
	} {
		r.run(warm)
		var spent map[string]uint64
		for range 4 { // a kernel short of memory may drop a page between two runs, not between all
			r.run(warm)
			before := r.requests()
			r.run(warm)
			if spent = r.since(before); len(spent) == 0 {
				break
			}
		}
		if len(spent) > 0 {
			t.Errorf("%s: what was seen before cost %v", warm, spent)
		}
	}
}

// since returns the requests that came after before, but for those that no
// program waits for (FORGET) and STATFS, which find asks for itself.
func (r *rig) since(before map[string]uint64) map[string]uint64 {
	r.t.Helper()
	spent := map[string]uint64{}
	for op, n := range r.requests() {
		switch op {
		case "FORGET", "BATCH_FORGET", "STATFS":
		default:
			if n != before[op] {
				spent[op] = n - before[op]
			}
		}
	}
	return spent
}

func TestUpperInUse(t *testing.T) {
	r := newRig(t, lowerScript)
	r.mount(false)
	other := *r
	other.dir = t.TempDir()
	cmd := r.server(other.dir)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("second mount of one upper: %v: %s", err, out)
	}
}

// TestRequestBudget counts requests: a figure that does not depend on how busy
// the machine is.
func TestRequestBudget(t *testing.T) {
	r := newRig(t, lowerScript+"\nfor i in {1..100}; do echo $i > usr/lib/l$i; done")
	r.mount(false)
	const files = 100
	tests := []struct {
		name, before, script string
		budget               float64 // requests a file
	}{
		{"walk a cold folder", "", "python3 -c \"import os; [e.stat() for e in os.scandir('usr/lib')]\"", 1.0/64 + 0.1},
		{"create and write", "mkdir d; ls d", "python3 -c \"for i in range(100): f=open('d/%d'%i,'wb',0); f.write(b'x'*5000); f.close()\"", 5.1},
		{"read what was written", "", "cat d/* > /dev/null", 1.1},
		{"list what was seen", "ls -l d", "ls -l d", 0.1},
		{"append", "", "for i in {1..100}; do echo more >> d/1; done", 1.1},
		{"chmod", "stat d/*", "chmod 600 d/*", 1.1},
		{"chown", "", "chown 5:5 d/*", 2.1},
		{"utimes", "", "touch -d 2001-01-01 d/*", 1.1},
		{"rename", "", "python3 -c \"import os; [os.rename('d/%d'%i,'d/r%d'%i) for i in range(100)]\"", 3},
		{"unlink", "", "python3 -c \"import os; [os.unlink('d/r%d'%i) for i in range(100)]\"", 2},
		// Of tar's requests the kernel adds four of its own accord: LOOKUP, GETATTR
		// of the folder that has changed, and GETXATTR security.capability twice.
		{"untar", "mkdir src; for i in {1..100}; do echo $i > src/$i; done; tar cf t.tar src; rm -r src", "tar xf t.tar", 9.2},
		{"exec", "cp /bin/true t; ./t", "for i in {1..100}; do ./t; done", 1.1},
		{"chmod of lower files", "ls -l usr/lib", "chmod 600 usr/lib/l*", 1.1},
	}
	for _, test := range tests {
		r.run(test.before)
		before := r.requests()
		r.run(test.script)
		got := 0.0
		spent := r.since(before)
		for _, n := range spent {
			got += float64(n)
		}
		if got/files > test.budget {
			t.Errorf("%s: %.2f requests a file, budget %.2f: %v", test.name, got/files, test.budget, spent)
		}
	}
}

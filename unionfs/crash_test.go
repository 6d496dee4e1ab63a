package unionfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crash is one operation, on what crashLower and its own setup leave. Each of
// the points of package failpoint that it passes ends the server once.
type crash struct {
	name, setup, do string
	env             string // how the server is to be started for it
	times           string // files whose time may be new although nothing else is
}

// crashLower is the lower of all of them.
const crashLower = `mkdir -p d/sub/deep e empty b; echo x >d/sub/deep/x; for i in 1 2 3; do echo file $i >d/f$i; done
	echo link >d/l1; ln d/l1 e/l2; ln d/l1 l3; ln -s d/f1 sym; mkfifo fifo
	yes 9999999 2>/dev/null | head -c 400000 >b/big || true; chmod 4755 d/f3; setfattr -n user.a -v b d/f1; chown 7:8 d/f2
	find . -exec touch -hd 2001-02-03 {} +`

func crashes() []crash {
	return []crash{
		{name: "copy up the data", do: `echo more >>d/f1`},
		{name: "copy up the metadata", do: `chmod 600 d/f1`},
		{name: "copy up deep", do: `chmod 600 d/sub/deep/x`},
		{name: "copy up a symbolic link", do: `chown -h 7:7 sym`},
		{name: "copy up a link", do: `echo more >>d/l1`},
		{name: "metadata, then the data", times: "d/f1", setup: `chmod 600 d/f1`, do: `echo more >>d/f1`},
		{name: "metadata, then empty", times: "d/f1", setup: `chmod 600 d/f1`, do: `truncate -s 0 d/f1`},
		{name: "metadata, then shorter", times: "d/f1", setup: `chmod 600 d/f1`, do: `truncate -s 4 d/f1`},
		{name: "change the owner of a setuid file", do: `chown 7:8 d/f3`},
		{name: "some of a big file", times: "b/big", do: `printf x | dd of=b/big conv=notrunc bs=1 seek=300000 status=none`},
		{
			name: "more of a big file", times: "b/big", setup: `printf x | dd of=b/big conv=notrunc bs=1 seek=300000 status=none`,
			do: `printf y | dd of=b/big conv=notrunc bs=1 seek=9 status=none`,
		},
		{name: "shorten a big file", times: "b/big", setup: `printf x | dd of=b/big conv=notrunc bs=1 seek=9 status=none`, do: `truncate -s 200001 b/big`},
		{name: "unlink a lower file", do: `rm d/f1`},
		{name: "unlink a copied file", setup: `chmod 600 d/f1`, do: `rm d/f1`},
		{name: "unlink a name over a lower one", setup: `echo n >n; rm d/f1; ln n d/f1`, do: `rm d/f1`},
		{name: "unlink a new file", setup: `echo new >n`, do: `rm n`},
		{name: "unlink a name of a link", do: `rm d/l1`},
		{name: "unlink a name of a link that has come back", setup: `mv d/l1 n; mv n d/l1`, do: `rm d/l1`},
		{name: "unlink the last name of a link", setup: `rm d/l1 e/l2`, do: `rm l3`},
		{name: "rmdir a lower folder", do: `rmdir empty`},
		{name: "rmdir an emptied folder", setup: `rm -r d/sub/deep`, do: `rmdir d/sub`},
		{name: "rmdir with two whiteouts", setup: `rm e/l2; mkdir -p n/s; rmdir n/s; mv d/sub n/; rm -r n/sub/deep`, do: `rmdir n/sub`},
		{name: "create", do: `>n`},
		{name: "create as another user", setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups touch d/n`},
		{name: "mkdir as another user", setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups mkdir d/n`},
		{name: "symlink as another user", setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups ln -s t d/n`},
		{name: "mknod as another user", setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups mkfifo d/n`},
		{name: "mkdir in a setgid folder", setup: `chgrp 7 d; chmod 2775 d`, do: `mkdir d/n`},
		{name: "create over a whiteout", setup: `rm d/f1`, do: `>d/f1`},
		{name: "mkdir over a whiteout", setup: `rm d/f1`, do: `mkdir d/f1`},
		{name: "mkdir over a whiteout of a folder", setup: `rm -r d`, do: `mkdir d`},
		{name: "link", do: `ln d/f1 n`},
		{name: "link a link", do: `ln d/l1 n`},
		{name: "link over a whiteout", setup: `rm d/f2`, do: `ln d/f1 d/f2`},
		{name: "rename a lower file", do: `mv d/f1 e/n`},
		{name: "rename over a lower file", do: `mv d/f1 d/f2`},
		{name: "rename over a new file", setup: `echo n >n`, do: `mv d/f1 n`},
		{name: "rename over a link", setup: `echo n >n`, do: `mv n d/l1`},
		{name: "rename a link", do: `mv d/l1 n`},
		{name: "rename a new file over a whiteout", setup: `rm d/f1; echo n >n`, do: `mv n d/f1`},
		{name: "rename a lower folder", do: `mv d/sub e/n`},
		{name: "rename a folder over a whiteout", setup: `rm d/f1`, do: `mv d/sub d/f1`},
		{name: "rename a new folder over a whiteout", setup: `rm d/f1; mkdir n`, do: `mv n d/f1`},
		{name: "rename over an empty folder", do: `mv -T d/sub empty`},
		{name: "rename over an emptied folder", setup: `rm e/l2`, do: `mv -T d/sub e`},
		{name: "rename over a new folder", setup: `mkdir -m 700 n`, do: `mv -T d/sub n`},
		{name: "exchange", do: `mv --exchange d/sub e/l2 2>/dev/null || python3 -c '` + exchange + `'`},
		{name: "set an attribute", do: `setfattr -n user.n -v v d/f1`},
		{name: "set the times", do: `touch -d 2002-02-02 d/f1`},
		{name: "plain: rename a lower folder", env: "UNIO_TEST_PLAIN=1", do: `mv d/sub e/n`},
		{
			name: "plain: rename a folder with some of a big file", env: "UNIO_TEST_PLAIN=1",
			setup: `printf x | dd of=b/big conv=notrunc bs=1 seek=9 status=none`, do: `mv b e/n`,
		},
		{name: "plain: change a file", env: "UNIO_TEST_PLAIN=1", do: `chmod 600 d/f1`},
	}
}

const exchange = `import ctypes; l = ctypes.CDLL(None, use_errno=True); r = l.renameat2(-100, b"d/sub", -100, b"e/l2", 2); exit(-r)`

// crashBinary builds this test, which is the server too, with the failpoints.
func crashBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "failpoints", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build with failpoints: %v\n%s", err, out)
	}
	return path
}

// failpoints returns the names of all points in the source.
func failpoints(t *testing.T) []string {
	t.Helper()
	sources, err := filepath.Glob("../cow/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal("no sources of cow: ", err)
	}
	call := regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	var names []string
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestCrash ends the server at each step of each operation. The tree must then
// be as it was before the operation or as it is after it, nothing may be left
// in the work folder, and the operation can be done.
func TestCrash(t *testing.T) {
	binary := crashBinary(t)
	met := map[string]int{}
	for _, c := range crashes() {
		t.Run(c.name, func(t *testing.T) { c.run(t, binary, met) })
	}
	for _, name := range failpoints(t) {
		if met[name] == 0 {
			t.Errorf("no operation passes %s", name)
		}
	}
}

// run tries an operation once for each point that it passes; in short, each
// point is tried with the first few operations that pass it.
func (c *crash) run(t *testing.T, binary string, met map[string]int) {
	origin := newRig(t, crashLower)
	origin.binary = binary
	before := c.prepare(origin)
	saved := t.TempDir()
	origin.sh(saved, "cp -a "+origin.upper+" "+origin.work+" .")
	log := filepath.Join(t.TempDir(), "points")
	origin.env = append(origin.env, "UNIO_FAILPOINT_LOG="+log, c.env)
	origin.mount(false)
	origin.run(c.do)
	origin.unmount()
	origin.mount(false)
	after := origin.state()
	origin.unmount()
	points, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, name := range strings.Fields(string(points)) {
		if tried[name] || met[name] >= 2 && os.Getenv("UNIO_TEST_LONG") == "" {
			continue
		}
		tried[name] = true
		met[name]++
		c.crashAt(origin.copy(saved), name, [2]string{before, after})
	}
}

// copy returns a union of the same lower whose upper and work folder are
// copies of those in folder saved.
func (r *rig) copy(saved string) *rig {
	r.t.Helper()
	base := r.t.TempDir()
	r.sh(base, "mkdir mnt; cp -a "+saved+"/upper "+saved+"/work .")
	return &rig{
		t: r.t, binary: r.binary, lower: r.lower,
		upper: filepath.Join(base, "upper"), work: filepath.Join(base, "work"), dir: filepath.Join(base, "mnt"),
	}
}

// prepare brings a rig into the state before the operation.
func (c *crash) prepare(r *rig) string {
	r.mount(false)
	r.run(c.setup)
	r.unmount()
	r.mount(false)
	defer r.unmount()
	return r.state()
}

// expect replaces the times in a state that may be new.
func (c *crash) expect(state string) string {
	for _, name := range strings.Fields(c.times) {
		line := regexp.MustCompile(`(?m)^(` + name + ` f .*) [-0-9]+ $`)
		state = line.ReplaceAllString(state, "$1 now ")
	}
	return state
}

// state is the tree of a mount, in which only such times count as were set.
func (r *rig) state() string {
	now := fmt.Sprint(time.Now().Year())
	return r.sh(r.dir, `find . -printf '%P %y %m %U %G %n %s %TY-%Tm-%Td %l\n' |
		sed 's/^\(.* d [0-9]* [0-9]* [0-9]* [0-9]*\) .*/\1/; s/ `+now+`-[^ ]*/ now/' | sort
		find . -type f | sort | xargs -r -d '\n' md5sum; getfattr -Rhd -m - . | grep -v '^$' | sort`)
}

// crashAt ends the server at one point of the operation and looks at the
// result.
func (c *crash) crashAt(r *rig, point string, want [2]string) {
	t := r.t
	t.Helper()
	r.env = []string{"UNIO_FAILPOINT=" + point, c.env}
	r.mount(false)
	out := r.fails(c.do)
	err := r.cmd.Wait()
	if s, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != unix.SIGKILL {
		t.Fatalf("%s: the server ended with %v; the operation said %s", point, err, out)
	}
	r.cmd = nil
	if err := unix.Unmount(r.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	r.env = []string{c.env}
	r.mount(false)
	defer r.unmount()
	if left := r.sh(r.work, "find . -mindepth 2 -not -path './hub/*'"); left != "" {
		t.Errorf("%s: left in the work folder:\n%s", point, left)
	}
	got := r.state()
	if got == want[1] {
		return
	}
	if got == c.expect(want[0]) {
		got = want[0]
	}
	r.equal(point+": neither as before nor as after", got, want[0])
	r.run(c.do)
	r.remount()
	r.equal(point+": done again", r.state(), want[1])
}

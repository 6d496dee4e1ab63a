package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// repeats are operations whose server dies on the way. TestCrash in unionfs
// looks at what that leaves; here another server takes over and is asked again.
func repeats() []struct{ setup, do string } {
	return []struct{ setup, do string }{
		{do: `echo more >>d/f1`},
		{do: `chmod 600 d/f1`},
		{do: `chmod 600 d/sub/deep/x`},
		{do: `echo more >>d/l1`},
		{setup: `chmod 600 d/f1`, do: `echo more >>d/f1`},
		{setup: `chmod 600 d/f1`, do: `truncate -s 4 d/f1`},
		{do: `printf x | dd of=big conv=notrunc bs=1 seek=200000 status=none`},
		{setup: `printf x | dd of=big conv=notrunc bs=1 seek=200000 status=none`, do: `truncate -s 100001 big`},
		{do: `rm d/f1`},
		{setup: `chmod 600 d/f1`, do: `rm d/f1`},
		{setup: `echo new >n`, do: `rm n`},
		{do: `rm d/l1`},
		{setup: `mv d/l1 n; mv n d/l1`, do: `rm d/l1`},
		{do: `rmdir empty`},
		{setup: `rm -r d/sub/deep`, do: `rmdir d/sub`},
		{do: `mkdir n`},
		{setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups touch d/n`},
		{setup: `chmod 777 d`, do: `setpriv --reuid 7 --regid 8 --clear-groups ln -s t d/n`},
		{setup: `rm d/f1`, do: `echo new >d/f1`},
		{setup: `rm d/f1`, do: `mkdir d/f1`},
		{setup: `rm d/f2`, do: `ln d/f1 d/f2`},
		{do: `ln d/l1 n`},
		{do: `mv d/f1 e/n`},
		{do: `mv d/f1 d/f2`},
		{setup: `echo n >n`, do: `mv n d/l1`},
		{do: `mv d/l1 n`},
		{setup: `rm d/f1`, do: `mv d/sub d/f1`},
		{do: `mv d/sub e/n`},
		{do: `mv -T d/sub empty`},
	}
}

// relay is a mount whose servers die by order.
type relay struct {
	*box
	mnt        string
	log, order string // files of package failpoint
	next, last int    // folders of the image: the one used last, the last one
}

func newRelay(t *testing.T, folders int) *relay {
	b := newBox(t)
	old := binary
	t.Cleanup(func() { binary = old })
	binary = b.path("unio")
	cmd := exec.Command("go", "build", "-tags", "failpoints,urfave_cli_no_docs", "-trimpath", "-o", binary, "../cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with failpoints: %v\n%s", err, out)
	}
	shell(t, b.dir, fmt.Sprintf(`mkdir -p lower/0/d/sub/deep lower/0/e lower/0/empty; cd lower/0; echo x >d/sub/deep/x
		for i in 1 2 3; do echo file $i >d/f$i; done; echo link >d/l1; ln d/l1 e/l2; ln d/l1 l3; seq 60000 >big
		cd ..; for i in $(seq %d); do cp -a 0 $i; done; find . -exec touch -hd 2001-02-03 {} +`, folders))
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "example/relay:1")
	r := &relay{box: b, last: folders, log: b.path("points"), order: b.path("order")}
	b.env = []string{"UNIO_FAILPOINT_LOG=" + r.log, "UNIO_FAILPOINT_FILE=" + r.order}
	r.mnt = b.mount("--name", "relay", "example/relay:1")
	// The keeper is started when the mount answers already.
	(&survivor{box: b, mnt: r.mnt}).waitKept(0)
	t.Cleanup(func() {
		logs, _ := filepath.Glob(filepath.Join(b.store(), "containers/*/log"))
		for _, path := range logs {
			if text, err := os.ReadFile(path); err == nil && t.Failed() {
				t.Log(string(text))
			}
		}
	})
	return r
}

// folder returns one that nobody has touched.
func (r *relay) folder() string {
	r.next++
	if r.next > r.last {
		r.t.Fatal("the image has too few folders")
	}
	return filepath.Join(r.mnt, fmt.Sprint(r.next))
}

// points returns which points an operation passes, and what it leaves.
func (r *relay) points(setup, do string) ([]string, string) {
	r.t.Helper()
	dir := r.folder()
	shell(r.t, dir, setup)
	must(r.t, os.WriteFile(r.log, nil, 0o600))
	shell(r.t, dir, do)
	text, err := os.ReadFile(r.log)
	must(r.t, err)
	names := strings.Fields(string(text))
	slices.Sort(names)
	return slices.Compact(names), r.state(dir)
}

func (r *relay) state(dir string) string {
	r.t.Helper()
	return shell(r.t, dir, `find . -mindepth 1 -printf '%P %y %m %U %G %n %s %l\n' | sed 's/^\(.* d [0-9]* [0-9]* [0-9]* [0-9]*\) .*/\1/' | sort
		find . -type f | sort | xargs -r md5sum`)
}

// TestCrashUnnoticed kills the server at each step of each operation while
// another one takes over: the operation succeeds as if nothing had been.
func TestCrashUnnoticed(t *testing.T) {
	kills, most, folders := map[string]int{}, 1, 100
	if os.Getenv("UNIO_TEST_LONG") != "" {
		most, folders = 1000, 400
	}
	r := newRelay(t, folders)
	for _, c := range repeats() {
		names, want := r.points(c.setup, c.do)
		for _, name := range names {
			if kills[name] == most {
				continue
			}
			if r.killAt(name, c.setup, c.do, want) {
				kills[name]++
			}
		}
	}
	t.Logf("killed at %v", kills)
	if len(kills) < 25 {
		t.Errorf("killed at %d points only", len(kills))
	}
	before := r.state(r.mnt)
	r.run("umount", r.mnt)
	r.run("mount", "relay", r.mnt)
	if after := r.state(r.mnt); after != before {
		t.Error("the next mount shows another tree")
	}
	r.assertSound()
}

// killAt runs an operation whose server dies at a point. It returns false if
// the server does not pass the point this time: the first whiteout that a server
// makes is the one it makes the others from.
func (r *relay) killAt(name, setup, do, want string) bool {
	t := r.t
	t.Helper()
	dir := r.folder()
	shell(t, dir, setup)
	must(t, os.WriteFile(r.order, []byte(name), 0o600))
	if said := attempt(t, dir, do); said != "" {
		t.Errorf("%s at %s: %s", do, name, said)
	}
	passed := os.Remove(r.order) != nil
	if got := r.state(dir); got != want {
		t.Errorf("%s at %s, after %q: got\n%s\nwant\n%s", do, name, setup, got, want)
	}
	return passed
}

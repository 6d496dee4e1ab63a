package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/tree"
)

// TestRandomDamage changes an upper at random behind the union's back, as a
// stranger or a bad program might. The mount answers all the same, nothing in
// it is in two places, and a commit holds what the mount shows or says in one
// line which file's data is lost. At last everything can be removed.
func TestRandomDamage(t *testing.T) {
	for seed := range uint64(rounds(6)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomDamage(t, 300+seed) })
	}
}

func randomDamage(t *testing.T, seed uint64) {
	b := newBox(t)
	needTool(t, "setfattr")
	w := newTwin(t, seed, twinImage(t, b, randomLower, "damaged:0"), "")
	w.mount = b.mount("--name", "damaged", "damaged:0")
	w.do(60, w.everyOp())
	w.closeAll()
	b.run("umount", w.mount)
	d := &damage{Rand: rand.New(rand.NewPCG(seed, 9)), upper: b.upper("damaged")}
	for range 1 + d.IntN(6) {
		d.once()
	}
	t.Logf("%s", strings.Join(d.log, "\n"))
	w.mount = b.mount("damaged")
	assertListings(t, "damaged", w.mount)
	want, err := tree.Read(w.mount, tree.Options{})
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Errorf("reading the damaged upper: %v", err)
	}
	r := b.try("commit", "-q", "damaged", "damaged:1")
	switch {
	case r.code == 0 && err != nil:
		t.Errorf("reading the mount: %v; commit says nothing of it", err)
	case r.code != 0 && strings.Count(strings.TrimSpace(r.stderr), "\n") > 0:
		t.Errorf("commit said more than a line: %s", r.stderr)
	case r.code == 0:
		got := readTree(t, b.mount("--read-only", "damaged:1"), tree.Options{})
		for _, entries := range []map[string]tree.Entry{want, got} {
			for name, e := range entries { // names of lower files may have gone without being counted
				e.Nlink = 1
				entries[name] = e
			}
		}
		for _, line := range tree.Diff(want, got, 20) {
			t.Error("committed: ", line)
		}
	}
	shell(t, w.mount, `chmod -R u+w .; find . -depth -mindepth 1 -delete; test -z "$(ls -A)"; echo alive >new; cat new`)
	if t.Failed() {
		t.Logf("log:\n%s", b.log("damaged"))
	}
}

// damage does random things to the entries of an upper and of its link hub.
type damage struct {
	*rand.Rand
	upper string
	log   []string
}

func (d *damage) once() {
	name := d.pick(d.upper)
	if d.IntN(5) == 0 {
		name = d.pick(filepath.Join(d.upper, "../work/hub"))
	}
	[]func(string){d.mark, d.mark, d.mark, d.unmark, d.copy, d.move, d.white, d.remove}[d.IntN(8)](name)
}

func (d *damage) say(format string, args ...any) { d.log = append(d.log, fmt.Sprintf(format, args...)) }

// pick returns a random path below dir, dir itself if there is none.
func (d *damage) pick(dir string) string {
	list := []string{dir}
	_ = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			list = append(list, p)
		}
		return nil
	})
	return list[d.IntN(len(list))]
}

func (d *damage) mark(name string) {
	marks := map[string][]string{
		"trusted.unio.origin":      {strconv.Itoa(d.IntN(90)), "1", "x"},
		"trusted.overlay.redirect": {"/a", "/b/one", "/d/e", "/lib", "sub", "a", "../c", "/"},
		"trusted.overlay.opaque":   {"y", "x", ""},
		"trusted.overlay.metacopy": {"", "junk"},
		"trusted.unio.partial":     {"300000", "4096", "0", "many"},
		"trusted.unio.nlink":       {"0", "1", "7", "few"},
	}
	names := []string{"trusted.unio.origin", "trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.overlay.metacopy", "trusted.unio.partial", "trusted.unio.nlink"}
	attr := names[d.IntN(len(names))]
	value := marks[attr][d.IntN(len(marks[attr]))]
	d.say("%s: %s = %q: %v", name, attr, value, unix.Lsetxattr(name, attr, []byte(value), 0))
}

func (d *damage) unmark(name string) {
	for _, attr := range []string{"trusted.unio.origin", "trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.unio.partial"} {
		if d.IntN(2) == 0 {
			d.say("%s: without %s: %v", name, attr, unix.Lremovexattr(name, attr))
		}
	}
}

// elsewhere is a name in the upper that may be taken.
func (d *damage) elsewhere() string {
	dir := d.pick(d.upper)
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, []string{"a", "b", "copy", "lib", "x"}[d.IntN(5)])
}

func (d *damage) copy(name string) {
	to := d.elsewhere()
	err := exec.Command("cp", "-aT", "--", name, to).Run()
	d.say("cp %s %s: %v", name, to, err)
}

func (d *damage) move(name string) {
	to := d.elsewhere()
	d.say("mv %s %s: %v", name, to, os.Rename(name, to))
}

func (d *damage) white(name string) {
	if name == d.upper {
		return
	}
	d.remove(name)
	d.say("mknod %s: %v", name, unix.Mknod(name, unix.S_IFCHR, 0))
}

func (d *damage) remove(name string) {
	if name != d.upper && filepath.Base(name) != "hub" {
		d.say("rm %s: %v", name, os.RemoveAll(name))
	}
}

package container

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestProcess(t *testing.T) {
	me, err := self()
	must(t, err)
	if !me.alive() || me.Pid != os.Getpid() {
		t.Errorf("we are not alive: %+v", me)
	}
	other := me
	other.Start++ // an earlier process of our number
	if other.alive() {
		t.Error("another process with our number is alive")
	}
	cmd := exec.Command("sleep", "60")
	must(t, cmd.Start())
	p, err := processOf(cmd.Process.Pid)
	must(t, err)
	if ended, err := p.wait(t.Context(), 10*time.Millisecond); ended || err != nil {
		t.Errorf("sleep: ended %v, %v", ended, err)
	}
	must(t, cmd.Process.Kill())
	if ended, err := p.wait(t.Context(), 10*time.Second); !ended || err != nil {
		t.Errorf("killed sleep: ended %v, %v", ended, err)
	}
	if p.alive() { // nobody has waited for it yet
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
	if p.alive() {
		t.Error("what has ended is alive")
	}
}

// TestStaleNotes checks that what a reboot leaves is cleared.
func TestStaleNotes(t *testing.T) {
	s := newStore(t)
	c := mustCreate(t, s, "one")
	dir := filepath.Join(t.TempDir(), "a/b")
	made, err := makeDirs(dir, 0o755)
	must(t, err)
	m := &Mount{
		ID: c.ID, Container: c.ID, Name: c.Name, Dir: realPath(dir), Made: made,
		Image: digest.FromString("image"), Server: process{Pid: 1 << 22, Start: 1},
	}
	must(t, s.note(m))
	if _, err := s.FindMount(dir); !errors.Is(err, ErrNotMounted) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("the folder stayed")
	}
	if _, err := os.Stat(s.notePath(c.ID)); err == nil {
		t.Error("the note stayed")
	}
	must(t, s.Remove(t.Context(), c, RemoveOptions{}))
}

func TestMakeDirs(t *testing.T) {
	top := t.TempDir()
	made, err := makeDirs(top+"/a/b/c", 0o755)
	must(t, err)
	if len(made) != 3 || made[0] != top+"/a" {
		t.Errorf("made %v", made)
	}
	write(t, top, "a/file", "")
	if _, err := makeDirs(top+"/a/file/x", 0o755); err == nil {
		t.Error("made a folder in a file")
	}
	if _, err := makeDirs(top+"/a/file", 0o755); err == nil {
		t.Error("took a file for a folder")
	}
	removeMade(made) // a holds a file and stays
	if _, err := os.Stat(top + "/a/b"); err == nil {
		t.Error("b stayed")
	}
	if _, err := os.Stat(top + "/a/file"); err != nil {
		t.Error(err)
	}
}

func TestRealPath(t *testing.T) {
	top := realPath(t.TempDir())
	must(t, os.Mkdir(top+"/dir", 0o755))
	must(t, os.Symlink("dir", top+"/link"))
	for path, want := range map[string]string{
		top + "/link":           top + "/dir",
		top + "/link/missing":   top + "/dir/missing",
		top + "/link/../dir/.":  top + "/dir",
		top + "/missing/a/../b": top + "/missing/b",
	} {
		if got := realPath(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, test := range []struct {
		path, dir string
		want      bool
	}{
		{"/a/b", "/a", true},
		{"/a", "/a", true},
		{"/ab", "/a", false},
		{"/", "/a", false},
		{"/a/..b", "/a", true},
	} {
		if got := within(test.path, test.dir); got != test.want {
			t.Errorf("%s in %s: %v", test.path, test.dir, got)
		}
	}
}

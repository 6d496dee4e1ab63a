package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/tree"
)

// fullSteps are changes on a full disk. Each must fail for want of space and
// leave everything as it was, unless it says that it may find room, in
// blocks that its folder or inode has already.
func fullSteps() []struct {
	name, do string
	may      bool
} {
	return []struct {
		name, do string
		may      bool
	}{
		{name: "first write to a lower file", do: `printf x | dd of=small conv=notrunc status=none`},
		{name: "append to a lower file", do: `echo more >>middle`},
		{name: "truncation of a lower file", do: `truncate -s 20000 middle`},
		{name: "write to a block of a big file", do: `printf x | dd of=big conv=notrunc bs=1 seek=400000 status=none`},
		{name: "write to another block of a partial file", do: `printf x | dd of=partial conv=notrunc bs=1 seek=400000 status=none`},
		{name: "write to a file whose metadata was copied", do: `printf x | dd of=meta conv=notrunc status=none`},
		{name: "append to a new file", do: `head -c 100000 /dev/zero >>full`},
		{name: "content of a new file", do: `! echo x >new; rm new; echo "dd: No space left on device" >&2; false`},
		{name: "page of a mapping", do: `python3 -c 'import mmap
f = open("mapped", "r+b"); m = mmap.mmap(f.fileno(), 0); m[0:3] = b"NEW"; m.flush()' || { dd if=mapped iflag=nocache count=0 status=none; false; }`},
		{name: "fallocate", do: `fallocate -o 30000000 -l 1000000 full`},
		{name: "long attribute", do: `setfattr -n user.long -v $(head -c 3000 /dev/zero | tr '\0' x) attr`},
		{name: "chmod of a lower file", do: `chmod 600 other; chmod 644 other`, may: true},
		{name: "rename of a lower file", do: `mv small large; mv large small`, may: true},
		{name: "rename of a lower folder", do: `mv dir rid; mv rid dir`, may: true},
		{name: "link of a lower file", do: `ln small large; rm large`, may: true},
		{name: "new folder", do: `mkdir new && rmdir new`, may: true},
		{name: "deep change", do: `chmod 600 dir/deep/x; chmod 644 dir/deep/x`, may: true},
	}
}

// TestUnionDiskFull changes a container whose disk is full. The one who makes a
// change is told; what was there before stays, nothing half-made is left, and
// with room again everything works, here and after the next mount.
func TestUnionDiskFull(t *testing.T) {
	b := newBox(t)
	needTool(t, "python3", "setfattr", "fallocate")
	b.onDisk("24M", "^has_journal,^resize_inode -b 4096")
	shell(t, b.dir, `mkdir -p lower/dir/deep; cd lower; echo x >dir/deep/x
		for f in small meta other attr; do seq 200 >$f; done; seq 3000 >middle; cp middle mapped; seq 80000 >big; cp big partial`)
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "example/full:1")
	mnt := b.mount("--name", "full", "example/full:1")
	shell(t, mnt, `chmod 644 meta; printf x | dd of=partial conv=notrunc status=none; printf x | dd of=attr conv=notrunc status=none
		dd if=/dev/zero of=full bs=1M status=none 2>/dev/null || true`)
	fill(t, mnt)
	before := untimed(t, mnt)
	for _, step := range fullSteps() {
		r := attempt(t, mnt, step.do)
		switch {
		case r == "" && !step.may:
			t.Errorf("%s: succeeded on a full disk", step.name)
		case r != "" && !strings.Contains(r, "No space left on device"):
			t.Errorf("%s: %s", step.name, r)
		}
		for _, line := range tree.Diff(before, untimed(t, mnt), 5) {
			t.Errorf("%s: %s", step.name, line)
		}
	}
	work := b.run("inspect", "--format", "{{.GraphDriver.Data.WorkDir}}", "full")
	if left := shell(t, filepath.Join(work, "tmp"), "find . -type f"); left != "" {
		t.Errorf("left in the work folder: %s", left)
	}
	b.run("umount", mnt)
	b.run("mount", "full", mnt)
	for _, line := range tree.Diff(before, untimed(t, mnt), 5) {
		t.Errorf("after a remount: %s", line)
	}
	shell(t, mnt, "rm full*")
	for _, step := range fullSteps() {
		if r := attempt(t, mnt, strings.TrimPrefix(step.do, "! ")); r != "" && step.name != "content of a new file" && !strings.Contains(step.do, "full") {
			t.Errorf("%s, with room again: %s", step.name, r)
		}
	}
}

// TestRemoveOnFullDisk removes more open files and folders than the folder that
// keeps them for their openers has room for: removing is what makes room. Their
// openers go on reading.
func TestRemoveOnFullDisk(t *testing.T) {
	b := newBox(t)
	b.onDisk("24M", "^has_journal,^resize_inode -b 4096")
	b.run("import", "-q", busyboxRoot(t, b.dir), "example/full:1")
	mnt := b.mount("--name", "full", "example/full:1")
	const n = 400 // a block of a folder has some 150 entries
	shell(t, mnt, fmt.Sprintf("mkdir new; cd new; for i in $(seq %d); do mkdir d$i; echo $i >f$i; done", n))
	open := make([]*os.File, n)
	for i := range open {
		var err error
		open[i], err = os.Open(filepath.Join(mnt, fmt.Sprint("new/f", i+1)))
		must(t, err)
		defer open[i].Close()
		dir, err := os.Open(filepath.Join(mnt, fmt.Sprint("new/d", i+1)))
		must(t, err)
		defer dir.Close()
	}
	fill(t, mnt)
	must(t, os.RemoveAll(filepath.Join(mnt, "new")))
	for i, f := range open {
		text, err := io.ReadAll(f)
		if err != nil || string(text) != fmt.Sprintln(i+1) {
			t.Fatalf("%s, removed: %q, %v", f.Name(), text, err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != int64(len(text)) {
			t.Fatalf("%s, removed: %v, %v", f.Name(), info, err)
		}
	}
}

// TestWritebackDiskFull is the same for a mount whose writes the kernel
// collects: the one who closes or syncs is told, and the next mount has what was
// there before.
func TestWritebackDiskFull(t *testing.T) {
	b := newBox(t)
	b.onDisk("24M", "^has_journal,^resize_inode -b 4096")
	shell(t, b.dir, `mkdir lower; cd lower; seq 200 >small; seq 80000 >big`)
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "example/full:1")
	mnt := b.mount("-o", "writeback", "--name", "full", "example/full:1")
	attempt(t, mnt, `dd if=/dev/zero of=full bs=1M count=30 status=none`) // nobody tells it before the end
	shell(t, b.store(), "sync -f .")                                      // the pages have to become blocks
	fill(t, mnt)
	for _, do := range []string{
		`printf x | dd of=small conv=notrunc,fsync status=none`, `printf x | dd of=big conv=notrunc,fdatasync status=none`,
		`head -c 100000 /dev/zero | dd of=new conv=fsync status=none`,
	} {
		if said := attempt(t, mnt, do); !strings.Contains(said, "No space left on device") {
			t.Errorf("%s: %q", do, said)
		}
	}
	b.run("umount", mnt)
	b.run("mount", "full", mnt)
	if said := attempt(t, mnt, "seq 200 | cmp - small && seq 80000 | cmp - big"); said != "" {
		t.Errorf("after the next mount: %s", said)
	}
}

// fill takes the last blocks of the disk of a mount by files of one.
func fill(t *testing.T, mnt string) {
	t.Helper()
	refused := 0
	for i := 0; refused < 3 && i < 6000; i++ {
		err := os.WriteFile(filepath.Join(mnt, fmt.Sprint("full", i)), []byte("x"), 0o644)
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if err != nil {
			refused++
		}
	}
}

// untimed reads a tree without its times: a write that fails changes them, as
// on other filesystems.
func untimed(t *testing.T, dir string) map[string]tree.Entry {
	t.Helper()
	entries, err := tree.Read(dir, tree.Options{})
	must(t, err)
	for name, e := range entries {
		e.MTime = unix.Timespec{}
		entries[name] = e
	}
	return entries
}

// attempt runs a script and returns what it says if it fails.
func attempt(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-eu", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	return string(out) + err.Error()
}

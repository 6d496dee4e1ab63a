package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"unio/imagestore/registry/registrytest"
)

// du adds up the disk that folders of the store take, each file once, as du
// does, and counts the files.
func (b *box) du(names ...string) (bytes, files int64) {
	b.t.Helper()
	seen := map[uint64]bool{}
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(b.store(), name), func(path string, _ os.DirEntry, err error) error {
			var st unix.Stat_t
			if err != nil || unix.Lstat(path, &st) != nil || seen[st.Ino] {
				return nil // gone meanwhile
			}
			seen[st.Ino] = true
			bytes += st.Blocks * 512
			files++
			return nil
		})
		must(b.t, err)
	}
	return bytes, files
}

// usage is "system df" for a program.
type usage map[string]struct{ size, reclaimable int64 }

func (b *box) df() usage {
	b.t.Helper()
	u := usage{}
	for line := range strings.SplitSeq(b.run("system", "df", "--format", "json"), "\n") {
		var row struct{ Type, Size, Reclaimable string }
		must(b.t, json.Unmarshal([]byte(line), &row))
		u[row.Type] = struct{ size, reclaimable int64 }{b.bytes(row.Size), b.bytes(strings.Fields(row.Reclaimable)[0])}
	}
	return u
}

func (b *box) bytes(text string) int64 {
	b.t.Helper()
	n, err := units.FromHumanSize(text)
	must(b.t, err)
	return n
}

// near compares what a command says, in four digits, with what du counts: a
// block for each file that is there or was.
func (b *box) near(what string, said, counted, files int64) {
	b.t.Helper()
	var st unix.Statfs_t
	must(b.t, unix.Statfs(b.store(), &st))
	b.t.Logf("%s: %d said, %d counted, %d files", what, said, counted, files)
	if off, most := max(said-counted, counted-said), files*st.Bsize+counted/1000; off > most {
		b.t.Errorf("%s: %d bytes said, %d counted, %d apart, %d allowed", what, said, counted, off, most)
	}
}

// stocked is a store with everything that takes room: images pulled (with
// compressed layers) and loaded, which share layers, one without a name, a
// child, containers that are and are not mounted, a layer that nobody needs,
// a download that was given up, and temporary files.
func stocked(t *testing.T) (b *box, mnt string) {
	t.Helper()
	addr := registrytest.Start(t)
	maker := newBox(t)
	shell(t, maker.dir, "mkdir a b; head -c 3000000 /dev/urandom >a/noise; seq 200000 >a/text; head -c 2000000 /dev/urandom >b/noise")
	for _, name := range []string{"a", "b"} {
		pack(t, maker.path(name), maker.path(name+".tar"))
	}
	maker.run("import", "-q", maker.path("a.tar"), addr+"/a:1")
	maker.run("push", "-q", addr+"/a:1")
	b = newBox(t)
	b.run("pull", "-q", addr+"/a:1")
	b.run("import", "-q", busyboxRoot(t, b.dir), "tools:1")
	for _, name := range []string{"lost", "base"} {
		b.run("import", "-q", maker.path("b.tar"), name+":1")
		shell(t, maker.dir, "head -c 1000000 /dev/urandom >b/more; tar -C b -cf b.tar .")
	}
	b.run("import", "-q", maker.path("b.tar"), "lost:1") // the first is without a name now
	mnt = b.mount("--name", "open", "base:1")
	shell(t, mnt, "head -c 500000 /dev/urandom >new; rm noise; truncate -s 50M hole; ln new second")
	b.run("commit", "-q", "open", "child:1")
	other := b.mount("--name", "done", addr+"/a:1")
	shell(t, other, "printf x | dd of=noise conv=notrunc status=none; mkdir d; touch d/{1..50}")
	b.run("umount", other)
	b.run("volume", "create", "kept")
	b.run("volume", "create", "old")
	shell(t, b.store(), "head -c 700000 /dev/urandom >volumes/old/_data/file; ln volumes/old/_data/file volumes/old/_data/again; seq 9999 >volumes/kept/_data/file")
	b.run("run", "--name", "user", "-v", "kept:/volume", "-v", "/anonymous", "tools:1", "/bin/sh", "-c", "seq 99999 >/anonymous/file")
	shell(t, b.dir, "mkdir ctx; head -c 600000 /dev/urandom >ctx/noise; printf 'FROM tools:1\\nCOPY noise /a\\nRUN seq 50000 >/b\\n' >ctx/Dockerfile")
	b.run("build", "-q", "ctx") // an image without a name, and three steps in the cache
	b.strew(1_234_567)
	return b, mnt
}

// strew leaves what a killed pull and a killed load leave.
func (b *box) strew(n int) {
	b.t.Helper()
	tmp := filepath.Join(b.store(), "state/tmp")
	must(b.t, os.WriteFile(filepath.Join(tmp, "partial-sha256-"+strings.Repeat("0", 64)), make([]byte, n), 0o600))
	must(b.t, os.WriteFile(filepath.Join(tmp, "blob-killed"), make([]byte, n), 0o600))
	must(b.t, os.WriteFile(filepath.Join(b.store(), "blobs/sha256", strings.Repeat("1", 64)), make([]byte, n), 0o600))
}

// TestDiskUsageIsTrue compares "system df" with du: all of it, what images
// take, what containers take, and, after each kind of prune, what has become
// free with what df had promised and prune reports.
func TestDiskUsageIsTrue(t *testing.T) {
	b, mnt := stocked(t)
	u := b.df()
	stored, files := b.du("blobs", "layers", "views", "state/tmp", "state/buildcache")
	b.near("images, build cache and garbage", u["Images"].size+u["Garbage"].size+u["Build Cache"].size, stored, files)
	upper, more := b.du("containers")
	b.near("containers", u["Containers"].size, upper, more)
	volumes, more := b.du("volumes")
	b.near("volumes", u["Local Volumes"].size, volumes, more)
	b.sharesAreTrue(u["Images"].size)

	all := []string{"blobs", "layers", "views", "state", "containers", "volumes"}
	for _, step := range []struct {
		args    []string
		promise func(u usage) int64 // what df says will become free; nil: nothing
	}{
		{args: []string{"image", "prune", "-f"}},
		{args: []string{"container", "prune", "-f"}, promise: func(u usage) int64 { return u["Containers"].reclaimable }},
		{args: []string{"volume", "prune", "-f"}},
		{args: []string{"volume", "prune", "-af"}, promise: func(u usage) int64 { return u["Local Volumes"].reclaimable }},
		{args: []string{"builder", "prune", "-af"}, promise: func(u usage) int64 { return u["Build Cache"].reclaimable }},
		{args: []string{"image", "prune", "-af"}, promise: func(u usage) int64 { return u["Images"].reclaimable + u["Garbage"].reclaimable }},
		{args: []string{"system", "prune", "-af"}, promise: func(u usage) int64 { return 0 }},
	} {
		what := strings.Join(step.args, " ")
		was := b.df()
		before, n := b.du(all...)
		out := b.run(step.args...)
		after, m := b.du(all...)
		_, text, ok := strings.Cut(out, "Total reclaimed space: ")
		if !ok {
			t.Fatalf("%s: %q", what, out)
		}
		b.near(what, b.bytes(strings.TrimSpace(text)), before-after, n-m+1)
		if step.promise != nil {
			b.near(what+", as promised", step.promise(was), before-after, n-m+1)
		}
	}
	if left := b.run("images", "-a", "--format", "{{.Repository}}"); left != "base\nchild" && left != "child\nbase" && left != "base" {
		t.Errorf("images left: %s", left)
	}
	b.run("umount", mnt)
	b.run("system", "prune", "-af")
	stored, files = b.du("blobs", "layers", "views", "state/tmp", "state/pairs")
	if stored > files*4096 || b.df()["Images"].size != 0 {
		t.Errorf("an empty store takes %d bytes in %d files; df %v", stored, files, b.df())
	}
}

// sharesAreTrue: the unique parts, and what is shared counted once, make up all.
func (b *box) sharesAreTrue(total int64) {
	b.t.Helper()
	var all struct {
		Images []struct{ Repository, Size, SharedSize, UniqueSize string }
	}
	must(b.t, json.Unmarshal([]byte(b.run("system", "df", "-v", "--format", "json")), &all))
	var unique, shared int64
	for _, i := range all.Images {
		n, m := b.bytes(i.UniqueSize), b.bytes(i.SharedSize)
		b.near("size of "+i.Repository, b.bytes(i.Size), n+m, 1)
		unique, shared = unique+n, max(shared, m)
	}
	if unique > total || unique+shared < total*9/10 {
		b.t.Errorf("unique %d and shared %d of %d bytes", unique, shared, total)
	}
	if len(all.Images) != 7 {
		b.t.Errorf("%d images: %v", len(all.Images), all.Images)
	}
}

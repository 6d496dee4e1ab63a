package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
	"unio/integration/tree"
)

// comparison is one thing a disk filesystem does: a program, and what it finds
// on unio, on overlayfs as it is mounted by default, and on overlayfs with
// redirect_dir, metacopy, index and xino on. The table in docs/design.md is
// made of these lines, and checked against them.
type comparison struct {
	what    string
	program func(p *probe) string

	unio, overlay, options string
}

// probe is where a program runs.
type probe struct {
	t          *testing.T
	dir, upper string
}

func (p *probe) path(name string) string { return filepath.Join(p.dir, name) }

// betterLower is the lower that the programs work on.
const betterLower = `
mkdir -p folder/sub merged/sub other empty bin
echo old >file; echo old >twin; ln twin folder/twin; ln twin folder/sub/twin
for i in $(seq 200); do echo $i >folder/$i; done
cp "$(command -v sleep)" bin/sleep
head -c 8388608 /dev/urandom >large
truncate -s 8M sparse; printf data >>sparse
find . -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
`

func comparisons() []comparison {
	const kept, no = "same", "different"
	return []comparison{
		{"a file opened for reading, then written through another descriptor, reads", openThenWrite, "new", "new", "new"},
		{"a shared mapping of it shows", mapThenWrite, "new", "old", "old"},
		{"inotify on a file from below: an append is", inotifyAppend, "told", "told", "told"},
		{"`tail -f` of a file from below shows an append", tailFollows, "yes", "yes", "yes"},
		{"writing to a program from below that runs", writeToRunning, "ETXTBSY", "ETXTBSY", "ETXTBSY"},
		{"running a program from below that is open for writing", runOpenForWriting, "ETXTBSY", "ETXTBSY", "ETXTBSY"},
		{"opening an 8 MiB file for writing takes", openForWriting, "nothing", "8 MiB", "8 MiB"},
		{"`O_RDWR|O_CREAT` on it takes", openOrCreate, "nothing", "8 MiB", "8 MiB"},
		{"opening it with `O_TRUNC` copies", openTruncating, "nothing", "nothing", "nothing"},
		{"chmod, chown, utimes, setxattr of it take", changeAttributes, "nothing", "8 MiB", "nothing"},
		{"another name of it takes", linkLarge, "nothing", "8 MiB", "nothing"},
		{"renaming it takes", renameLarge, "nothing", "8 MiB", "nothing"},
		{"copying up 8 MiB of hole takes", copyUpHole, "nothing", "nothing", "nothing"},
		{"st_ino and st_dev of a file at copy-up", numbersAtCopyUp, kept, kept, kept},
		{"st_ino of one of three hard links at copy-up", linkNumbersAtCopyUp, kept, no, kept},
		{"a write through one hard link is seen through the others", writeThroughLink, "yes", "no", "yes"},
		{"st_nlink of three hard links, one removed", linkCount, "2", "3", "2"},
		{"st_nlink of a folder with two folders in it", folderLinks, "4", "1", "1"},
		{"rename of a lower folder", renameLower, "done", "EXDEV", "done"},
		{"rename of a merged folder", renameMerged, "done", "EXDEV", "done"},
		{"exchange of two lower folders", exchangeLower, "done", "EXDEV", "done"},
		{"rename of a lower folder onto an empty merged one", renameOntoMerged, "done", "EXDEV", "done"},
		{"mtime of a folder when a file in it is copied up", folderTimeAtCopyUp, kept, kept, kept},
		{"mtime of a file at chmod, in nanoseconds", timeAtChmod, kept, kept, kept},
		{"flock held across copy-up keeps others out", flockAcrossCopyUp, "yes", "yes", "yes"},
		{"record lock held across copy-up keeps others out", recordLockAcrossCopyUp, "yes", "yes", "yes"},
		{"a read lease on a file from below", lease, "given", "given", "given"},
		{"a lower file's handle after its copy-up opens", handleAcrossCopyUp, "the file", "ENOTSUP", "ENOTSUP"},
		{"SEEK_HOLE of a sparse lower file finds the hole", seekHole, "yes", "yes", "yes"},
		{"a folder read while its files are copied up lists each", readWhileCopyingUp, "once", "once", "once"},
		{"d_ino is st_ino, in a folder read after a copy-up", numbersListed, "yes", "yes", "yes"},
	}
}

// TestBetter runs each program on unio and on both overlayfs. Where overlayfs
// fails is asserted too, so that the table in docs/design.md stays true.
func TestBetter(t *testing.T) {
	b := newBox(t)
	lower := b.path("lower")
	must(t, os.Mkdir(lower, 0o755))
	shell(t, lower, betterLower)
	pack(t, lower, b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "better:1")
	design, err := os.ReadFile("../docs/design.md")
	must(t, err)
	for _, c := range comparisons() {
		t.Run(c.what, func(t *testing.T) {
			onUnio(t, b, c)
			onOverlay(t, lower, "", c.program, c.overlay)
			onOverlay(t, lower, "redirect_dir=on,metacopy=on,index=on,xino=on", c.program, c.options)
			row := "| " + strings.Join([]string{strings.ReplaceAll(c.what, "|", `\|`), c.unio, c.overlay, c.options}, " | ") + " |"
			if !strings.Contains(string(design), row) {
				t.Errorf("docs/design.md lacks the line\n%s", row)
			}
		})
	}
}

func onUnio(t *testing.T, b *box, c comparison) {
	t.Helper()
	mnt := b.mount("--name", "probe", "better:1")
	p := &probe{t, mnt, b.upper("probe")}
	if got := c.program(p); got != c.unio {
		t.Errorf("unio: %s, want %s", got, c.unio)
	}
	want := readTree(t, mnt, tree.Options{NoRoot: true})
	b.run("umount", mnt)
	again := b.mount("probe")
	for _, line := range tree.Diff(want, readTree(t, again, tree.Options{NoRoot: true}), 10) {
		t.Error("after a remount: ", line)
	}
	b.run("umount", again)
	b.run("rm", "probe")
}

func onOverlay(t *testing.T, lower, options string, program func(*probe) string, want string) {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(lower), "overlay") // a name without commas
	must(t, err)
	u, err := peers.MountOverlayWith(dir, []string{lower}, options)
	must(t, err)
	defer func() { must(t, u.Close()) }()
	got := program(&probe{t, u.Dir, u.Upper})
	if got != want {
		t.Errorf("overlayfs (%s): %s, the table says %s", options, got, want)
	}
}

// taken says how much of the upper's disk is used since before, in words.
func (p *probe) taken(change func()) string {
	before := diskBlocks(p.t, p.upper)
	change()
	switch used := diskBlocks(p.t, p.upper) - before; {
	case used > 7<<20:
		return "8 MiB"
	case used > 64<<10:
		return "much"
	}
	return "nothing"
}

// diskBlocks sums up what the files below dir take on the disk, in bytes.
func diskBlocks(t *testing.T, dir string) (used int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		used += st.Blocks * 512
		return err
	}))
	return used
}

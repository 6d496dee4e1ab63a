package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// partialChanges writes little into large files.
const partialChanges = `printf changed | dd of=one conv=notrunc bs=1 seek=3000000 status=none
truncate -s 5000001 one; truncate -s 9M one; printf end >> one
fallocate -p -o 1000000 -l 70001 two; mv two moved
chmod 600 three; printf x | dd of=three conv=notrunc bs=1 status=none
printf links | dd of=four conv=notrunc bs=1 seek=500000 status=none
cp -p five keep; printf x | dd of=five conv=notrunc bs=1 seek=4000000 status=none
dd if=keep of=five conv=notrunc bs=1M status=none; touch -r keep five; rm keep
find . -newermt '-1 hour' -exec touch -h -d 2021-01-01 {} +`

// TestPartialCommit commits a container that has written a little of large
// files, and one that goes on from there.
func TestPartialCommit(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	shell(t, b.dir, `mkdir src && cd src && for i in one two three four five; do head -c 8000003 /dev/urandom > $i; done
		ln four link; find . -exec touch -h -d 2020-01-01 {} +`)
	pack(t, b.path("src"), b.path("src.tar"))
	b.run("import", "-q", b.path("src.tar"), "large:1")
	mnt := b.mount("--name", "large", "large:1")
	shell(t, mnt, partialChanges)
	shell(t, b.path("src"), partialChanges)
	sums := "cat <(md5sum *) <(stat -c '%n %s %a' *)"
	want := shell(t, b.path("src"), sums)
	if got := shell(t, mnt, sums); got != want {
		t.Fatalf("mount:\n%s\nwant:\n%s", got, want)
	}
	if used := b.diskUsage("large"); used > 12<<20 { // five is all written, the rest is not
		t.Errorf("the upper takes %d bytes", used)
	}
	if diff := b.run("diff", "large"); strings.Contains(diff, "five") {
		t.Errorf("a file is as it was, and diff says\n%s", diff)
	}
	b.run("commit", "-q", "large", "large:2")
	next := b.mount("--name", "next", "large:2")
	if got := shell(t, next, sums); got != want {
		t.Fatalf("committed:\n%s\nwant:\n%s", got, want)
	}
	b.run("export", "-o", b.path("flat.tar"), "large")
	must(t, os.Mkdir(b.path("flat"), 0o755))
	shell(t, b.path("flat"), "tar xf ../flat.tar")
	if got := shell(t, filepath.Join(b.dir, "flat"), sums); got != want {
		t.Errorf("exported:\n%s\nwant:\n%s", got, want)
	}
}

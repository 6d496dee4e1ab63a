package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// randomLower is the image that random tests change: hard links across
// folders, folders to move, large and sparse files, attributes.
const randomLower = `
mkdir -p a/sub/deep a/empty b/one/two c d/e/f lib
for i in 1 2 3 4 5 6; do echo $i >a/$i; echo b$i >b/one/$i; done
for i in $(seq 40); do echo $i >lib/$i; done
echo five >a/five; ln a/five a/sub/five; ln a/five b/five; ln a/five b/one/two/five; ln a/five five
echo two >d/two; ln d/two d/e/f/two
echo pair >c/x; ln c/x c/y
ln -s target c/link; ln c/link c/samelink
mkfifo d/fifo; mknod d/null c 1 3
head -c 500000 /dev/urandom >lib/large; ln lib/large b/large
truncate -s 1M lib/sparse; printf end >>lib/sparse
setfattr -n user.colour -v blue a/1; setfattr -n trusted.secret -v x lib
setfattr -n trusted.overlay.redirect -v /c b; setfattr -n trusted.unio.origin -v 3 c
chown 12:34 a/2; chmod 4755 a/3; chown -h 5:6 c/link
find . -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
`

// twinImage makes the lower as a plain folder and as an image of the given
// name, and returns the folder.
func twinImage(t *testing.T, b *box, script, image string) string {
	t.Helper()
	plain := b.path("plain")
	must(t, os.Mkdir(plain, 0o755))
	shell(t, plain, script)
	pack(t, plain, b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), image)
	return plain
}

// TestRandomTwins does random things to a container and to a plain folder,
// with remounts and commits in between. Live, remounted, committed, unpacked by
// umoci and as the lower of a second generation the tree is the folder's.
func TestRandomTwins(t *testing.T) {
	for seed := range uint64(rounds(4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomTwins(t, seed, (*twin).everyOp) })
	}
}

// TestRandomLinks is the same with hard links and little else.
func TestRandomLinks(t *testing.T) {
	for seed := range uint64(rounds(4)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomTwins(t, 100+seed, (*twin).linkOps) })
	}
}

func randomTwins(t *testing.T, seed uint64, ops func(*twin) []weighted) {
	b := newBox(t)
	needTool(t, "umoci", "setfattr")
	w := newTwin(t, seed, twinImage(t, b, randomLower, "twin:0"), "")
	for generation := range 2 {
		name := "twin" + strconv.Itoa(generation)
		w.mount, w.inodes = b.mount("--name", name, fmt.Sprintf("twin:%d", generation)), map[inodeKey]uint64{}
		lower := originalOf(t, w.plain)
		w.check("fresh")
		image := fmt.Sprintf("twin:%d", generation+1)
		for round := range 3 {
			w.do(60, ops(w))
			w.check("live")
			w.assertDiff(b, name, lower)
			if round == 1 {
				b.run("commit", "-q", name, "between:1")
				w.assertTree("commit while mounted", b.mount("--read-only", "between:1"))
				w.do(20, ops(w))
				w.check("after commit")
			}
			w.closeAll()
			b.run("umount", w.mount)
			w.mount = b.mount(name)
			w.check("remounted")
		}
		b.run("commit", "-q", name, image)
		w.assertTree("committed", b.mount("--read-only", image))
		w.foreign = isOverlayXattr // which umoci leaves out
		w.assertTree("unpacked", umociUnpack(t, b, image))
		w.foreign = nil
		b.run("umount", w.mount)
	}
}

// umociUnpack unpacks an image as another tool reads it and returns the root.
func umociUnpack(t *testing.T, b *box, image string) string {
	t.Helper()
	dir, err := os.MkdirTemp(b.dir, "unpacked")
	must(t, err)
	b.run("save", "-o", filepath.Join(dir, "image.tar"), image)
	shell(t, dir, "mkdir layout && tar xf image.tar -C layout")
	tag := image[len("twin:"):]
	tool(t, "umoci", "unpack", "--image", filepath.Join(dir, "layout")+":"+tag, filepath.Join(dir, "bundle"))
	return filepath.Join(dir, "bundle/rootfs")
}

func isOverlayXattr(name string) bool { return strings.HasPrefix(name, "trusted.overlay.") }

package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/integration/tree"
)

// badLower is the image below the uppers that are damaged here.
const badLower = `
mkdir -p a/b/c d e
for i in 1 2 3; do echo a$i >a/$i; echo b$i >a/b/$i; echo d$i >d/$i; done
echo twin >d/twin; ln d/twin e/twin; ln -s 1 a/link
head -c 600000 /dev/urandom >large
find . -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
`

// badChanges is what the container did before: a folder moved, files copied up
// with and without data, a link group in the hub, whiteouts.
const badChanges = `
mv a moved; mkdir a; echo new >a/new; chmod 600 d/1; echo more >>d/2; rm d/3; echo x >>d/twin
printf x | dd of=large bs=1 seek=300000 conv=notrunc status=none; mkdir fresh; echo f >fresh/f
`

// badUppers are damages done to an upper (the current folder, its work folder
// is ../work) between two mounts. Such a mount works: nothing a stranger wrote
// there is believed beyond reason, and what was not damaged is as it was.
var badUppers = map[string]string{
	"origin without a number": `for v in "" x -1 1.5 " 3" 0x3 99999999999999999999999 $(head -c 2000 /dev/zero | tr '\0' 9); do
		mkdir "fresh/$RANDOM"; echo >fresh/f$RANDOM; done
		for f in fresh/*; do setfattr -n trusted.unio.origin -v nonsense$RANDOM "$f"; done; setfattr -n trusted.unio.origin -v "" a`,
	"origin of nothing":              `setfattr -n trusted.unio.origin -v 999999 fresh; setfattr -n trusted.unio.origin -v 0 fresh/f; setfattr -n trusted.unio.origin -v 4611686018427387904 a/new`,
	"origin of another type":         `setfattr -n trusted.unio.origin -v 1 fresh/f; for i in $(seq 30); do echo >a/n$i; setfattr -n trusted.unio.origin -v $i a/n$i; mkdir a/d$i; setfattr -n trusted.unio.origin -v $i a/d$i; done`,
	"origin is the root":             `setfattr -n trusted.unio.origin -v 1 fresh; setfattr -n trusted.unio.origin -v 1 a`,
	"everything has one origin":      `find . -mindepth 1 -type d -exec setfattr -n trusted.unio.origin -v 2 {} +; find . -type f -exec setfattr -n trusted.unio.origin -v 5 {} +`,
	"upper copied into itself":       `cp -a . ../copy; mv ../copy fresh/copy; cp -a moved fresh/moved; cp -a d/1 fresh/1; cp -a large fresh/large`,
	"redirects that point out":       `i=0; for v in /../../etc .. . / // /nothing /d/1 a/../.. ./d /moved "" /./a $(head -c 3000 /dev/zero | tr '\0' r); do i=$((i+1)); mkdir fresh/$i; setfattr -n trusted.overlay.redirect -v "$v" fresh/$i; done`,
	"redirects in a circle":          `setfattr -x trusted.unio.origin moved; setfattr -n trusted.overlay.redirect -v /e d; setfattr -n trusted.overlay.redirect -v /d moved; mkdir e; setfattr -n trusted.overlay.redirect -v /a e; setfattr -n trusted.overlay.redirect -v /fresh a`,
	"a folder redirected to its own": `mkdir -p fresh/x/y; setfattr -n trusted.overlay.redirect -v / fresh; setfattr -n trusted.overlay.redirect -v /d fresh/x; setfattr -n trusted.overlay.redirect -v /d fresh/x/y`,
	"opaque on files":                `setfattr -n trusted.overlay.opaque -v y d/1; setfattr -n trusted.overlay.opaque -v y large`,
	"opaque of any value":            `setfattr -n trusted.overlay.opaque -v "" d; setfattr -n trusted.overlay.opaque -v x moved; setfattr -n trusted.overlay.opaque -v yes fresh`,
	"metacopy where it has no place": `setfattr -n trusted.overlay.metacopy d; setfattr -n trusted.overlay.metacopy moved; ln -s x fresh/l; setfattr -h -n trusted.overlay.metacopy fresh/l; mkfifo fresh/p; setfattr -n trusted.overlay.metacopy fresh/p`,
	"whiteouts with attributes":      `mknod e c 0 0; setfattr -n trusted.overlay.opaque -v y e; setfattr -n trusted.unio.origin -v 3 e; chmod 777 e; chown 5:5 e; mknod fresh/w c 0 0; ln fresh/w fresh/w2`,
	"names of others":                `printf x >"fresh/$(printf '\377\n\001')"; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("fresh/sock")'; setfattr -n trusted.overlay.origin -v garbage d; setfattr -n trusted.overlay.impure -v y d; setfattr -n trusted.overlay.nlink -v U+5 d/1; setfattr -n trusted.overlay.uuid -v 1 .`,
	"link counts of any value":       `for f in ../work/hub/*; do setfattr -n trusted.unio.nlink -v many $f; done`,
	"a hub of strange names":         `mkdir ../work/hub/dir ../work/hub/99; echo x >../work/hub/junk; echo y >../work/hub/3; mknod ../work/hub/4 c 0 0; ln -s /etc ../work/hub/link`,
	"no hub":                         `rm -r ../work/hub`,
	"no work folder's content":       `rm -rf ../work; mkdir ../work`,
	"a full tmp":                     `mkdir -p ../work/tmp/a/b; echo x >../work/tmp/a/b/c; chmod 0 ../work/tmp/a; ln -s /etc ../work/tmp/etc; echo >../work/tmp/1`,
	"attributes on the root":         `setfattr -n trusted.overlay.redirect -v /d .; setfattr -n trusted.unio.origin -v 7 .; setfattr -n trusted.overlay.metacopy -v x .`,
}

// TestBadUpper mounts damaged uppers. Whatever is in one, the mount answers,
// every file can be looked at, what is committed is what the mount shows, and
// everything can be removed.
func TestBadUpper(t *testing.T) {
	b := newBox(t)
	needTool(t, "setfattr", "python3")
	must(t, os.Mkdir(b.path("lower"), 0o755))
	shell(t, b.path("lower"), badLower)
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "bad:0")
	for name, damage := range badUppers {
		t.Run(name, func(t *testing.T) {
			box := *b
			box.t = t
			box.badUpper(damage)
		})
	}
}

func (b *box) badUpper(damage string) {
	t := b.t
	mnt := b.mount("--name", "bad", "bad:0")
	defer func() { b.run("rm", "-f", "bad") }()
	shell(t, mnt, badChanges)
	b.run("umount", mnt)
	upper := b.upper("bad")
	shell(t, upper, damage)
	mnt = b.mount("bad")
	defer func() { b.try("umount", mnt) }()
	shell(t, mnt, `find . -type f -exec cat {} + >/dev/null; find . -ls >/dev/null; getfattr -Rhdm- . >/dev/null; test "$(cat large | wc -c)" = 600000`)
	assertListings(t, "damaged", mnt)
	b.run("diff", "bad")
	b.run("commit", "-q", "bad", "bad:1")
	image := b.mount("--read-only", "bad:1")
	sockets := func(path string) bool { return strings.HasSuffix(path, "/sock") }
	assertSameTree(t, mnt, image, tree.Options{Skip: sockets})
	b.run("umount", image)
	shell(t, mnt, `echo x >new; chmod -R u+w .; for f in *; do mv "$f" "$f.moved"; done; rm -rf -- *; test -z "$(ls -A)"; echo alive >new`)
	b.assertNoPanic("bad")
}

// lostData are damages that leave nobody able to say what is in fresh/f. The
// mount shows the file and says EIO to who reads it; a commit refuses.
var lostData = map[string]string{
	"metacopy without a lower":       `: >fresh/f; truncate -s 400000 fresh/f; setfattr -n trusted.overlay.metacopy fresh/f`,
	"metacopy over a folder":         `rm -rf e; truncate -s 9 e; setfattr -n trusted.overlay.metacopy e; rm fresh/f; ln e fresh/f`,
	"partial without a number":       `truncate -s 400000 fresh/f; setfattr -n trusted.unio.partial -v x fresh/f`,
	"partial below nothing":          `truncate -s 400000 fresh/f; setfattr -n trusted.unio.partial -v -5 fresh/f`,
	"partial of an unlikely size":    `truncate -s 400000 fresh/f; setfattr -n trusted.unio.partial -v 99999999999999999999 fresh/f`,
	"partial of a file that is none": `truncate -s 400000 fresh/f; setfattr -n trusted.unio.partial -v 300000 fresh/f; setfattr -n trusted.unio.origin -v 2 fresh/f`,
}

// TestLostData mounts uppers that lack data.
func TestLostData(t *testing.T) {
	b := newBox(t)
	needTool(t, "setfattr")
	must(t, os.Mkdir(b.path("lower"), 0o755))
	shell(t, b.path("lower"), badLower)
	pack(t, b.path("lower"), b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "bad:0")
	for name, damage := range lostData {
		t.Run(name, func(t *testing.T) {
			box := *b
			box.t = t
			box.lostData(damage)
		})
	}
}

func (b *box) lostData(damage string) {
	t := b.t
	mnt := b.mount("--name", "lost", "bad:0")
	defer func() { b.run("rm", "-f", "lost") }()
	shell(t, mnt, badChanges)
	b.run("umount", mnt)
	shell(t, b.upper("lost"), damage)
	mnt = b.mount("lost")
	defer func() { b.try("umount", mnt) }()
	name := filepath.Join(mnt, "fresh/f")
	if _, err := os.ReadFile(name); !errors.Is(err, unix.EIO) {
		t.Errorf("reading what is lost: %v, want EIO", err)
	}
	if !strings.Contains(b.log("lost"), `"level":"ERROR"`) {
		t.Error("the log does not say that data is lost")
	}
	r := b.try("commit", "-q", "lost", "lost:1")
	if r.code == 0 || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 || !strings.Contains(r.stderr, "/f: ") && !strings.Contains(r.stderr, "/e: ") {
		t.Errorf("commit of lost data: exit code %d, %q; want one line that names the file", r.code, r.stderr)
	}
	must(t, os.WriteFile(name, []byte("anew"), 0o600))
	shell(t, mnt, "rm -rf e; find . -type f -exec cat {} + >/dev/null")
	b.run("commit", "-q", "lost", "lost:1")
}

// log returns what the server of a container has written.
func (b *box) log(container string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(b.upper(container)), "log"))
	must(b.t, err)
	return string(text)
}

// assertNoPanic looks for requests that failed inside the server.
func (b *box) assertNoPanic(container string) {
	b.t.Helper()
	for line := range strings.Lines(b.log(container)) {
		if strings.Contains(line, `"level":"ERROR"`) {
			b.t.Errorf("the server's log: %s", line)
		}
	}
}

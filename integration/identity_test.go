package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// identityLower is what every scenario finds in a folder of its own: a file of
// five names in four folders, one of two names, files of one name, and folders
// within folders.
const identityLower = `
mkdir -p g sub moving/in deleted empty a/b/c a/d e/f full
echo five >g/1; ln g/1 g/2; ln g/1 sub/3; ln g/1 moving/in/4; ln g/1 deleted/5
echo two >two; ln two sub/two
echo one >one; echo other >other; echo x >deleted/x
for i in 1 2 3; do echo $i >a/$i; echo $i >a/b/$i; echo $i >a/b/c/$i; echo $i >a/d/$i; echo e$i >e/$i; echo ef$i >e/f/$i; echo $i >full/$i; done
ln -s one link; mkfifo fifo; mknod null c 1 3
head -c 300000 /dev/urandom >large; ln large a/large
find . -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
`

// swap is a shell function that exchanges two names.
const swap = `swap() { python3 -c 'import ctypes,os,sys
l=ctypes.CDLL(None,use_errno=True)
assert l.renameat2(-100,os.fsencode(sys.argv[1]),-100,os.fsencode(sys.argv[2]),2)==0, os.strerror(ctypes.get_errno())' "$1" "$2"; }
move() { python3 -c 'import os,sys; os.rename(sys.argv[1],sys.argv[2])' "$1" "$2"; }
`

// identityScenarios are done to a container and to a plain folder.
var identityScenarios = map[string]string{
	// Copy-up of every kind.
	"append":          `echo x >>one; echo x >>large`,
	"chmod":           `chmod 600 one g/1 a; chmod 711 fifo null`,
	"chown":           `chown -h 1:2 one link fifo null two a`,
	"truncate":        `truncate -s 2 one; truncate -s 9 two; : >other`,
	"xattr":           `setfattr -n user.k -v v one; setfattr -n user.k -v v sub/3; setfattr -n user.k -v v a`,
	"times":           `touch -d 2001-01-01 one link; touch -d 2001-01-01 g/1; touch -d 2001-01-01 a`,
	"rename files":    `mv one sub/one; mv link a/link; mv fifo null e; mv two a/b/two`,
	"link everything": `ln one again; ln link a/link; ln fifo a/fifo; ln null a/null; ln large e/large; ln g/1 six`,
	// The names of one file.
	"write through the second":      `echo x >>g/2`,
	"write through the fifth":       `echo x >>deleted/5; truncate -s 3 sub/3`,
	"two names":                     `echo x >>two; echo y >>sub/two`,
	"names removed one by one":      `rm g/1; echo 1 >>g/2; rm g/2; rm sub/3; echo 2 >>moving/in/4; rm moving/in/4`,
	"all names removed":             `rm g/* sub/3 moving/in/4 deleted/5; echo anew >g/1; rm two sub/two`,
	"names added and removed":       `ln g/1 g/6; rm g/1; ln sub/3 g/7; rm g/7; ln g/6 g/1; rm deleted/5 sub/3`,
	"a name over another file":      `mv -f g/1 one; echo x >>one; mv -f sub/two other`,
	"another file over a name":      `mv -f one g/1; mv -f other sub/two; echo x >>g/2`,
	"a name over a name of its own": `move g/1 g/2; move g/1 deleted/5; echo x >>g/1`,
	"a name over one of another":    `move two g/1; move g/2 sub/two; echo x >>g/1; echo y >>sub/3`,
	"names exchanged":               `swap g/1 two; swap sub/3 one; swap g/2 sub/3; echo x >>one; echo y >>two`,
	"names in a moved folder":       `mv moving gone; echo x >>g/1; echo y >>gone/in/4; mv gone/in back; rm back/4; mkdir moving; ln g/1 moving/4`,
	"names in a folder made again":  `rm -r deleted; mkdir deleted; echo x >>g/1; ln g/1 deleted/5; ln g/1 deleted/new; rm -r deleted; mkdir deleted; ln deleted deleted/no 2>/dev/null || :`,
	"names in folders exchanged":    `swap g sub; swap moving deleted; echo x >>g/3; rm sub/1; ln g/3 sub/1`,
	"names moved into each other":   `mv g/1 sub/4; mv sub/3 g/1; mv moving/in/4 sub/3; mv deleted/5 moving/in/4; mv sub/4 deleted/5; chmod 600 g/1`,
	"a new group":                   `echo n >n1; ln n1 n2; ln n2 a/n3; mv a/n3 a/b/n3; rm n1; mv a a2; echo m >>n2`,
	// Folders.
	"folder":                         `mv a moved`,
	"folder and what is in it":       `mv a x; mv x/b y; mv y/c x/c; echo new >x/c/new; rm x/c/1`,
	"there and back":                 `mv a x; mv x/b x/e; mv x/e x/b; mv x a`,
	"there and back, changed":        `mv a x; mv x/b y; rm y/1; echo n >y/n; mv y x/b; mv x a; rm a/b/2`,
	"again and again":                `mv a x; mv x y; mv y e/a; mv e z; mv z/a a; mv z e; mv a/b e; mv e/b a`,
	"over an empty folder":           `mv -T a empty; mkdir a; echo n >a/n`,
	"over an emptied folder":         `rm full/*; mv -T a full; mkdir a; mv full/b a/b`,
	"over a whiteout":                `rm -r e; mv a e; rm -r e/b; mv e/d e/b`,
	"over whiteouts, twice":          `rm -r e full; mv a e; mv e full; mkdir a; mv full a/a; mv a e`,
	"into each other's places":       `mv a t; mv e a; mv t e; echo x >>a/1; rm e/1; mv a/f e/f; mv e/b a/b`,
	"three in a ring":                `mv a t; mv e a; mv full e; mv t full; rm full/1 e/1; mkdir a/new`,
	"exchange":                       `swap a e; rm a/1; echo n >e/n; mkdir e/dir; rm -r e/b`,
	"exchange, nested":               `swap a/b e/f; swap a e; swap a/f a/1; echo n >e/b/n`,
	"exchange of folder and file":    `swap a one; echo x >>a; echo n >one/n; swap empty full/1`,
	"exchange with what is new":      `mkdir n; echo n >n/n; swap n a; rm n/1; echo m >a/m; rm -r n/b; swap n a`,
	"deeper into the other":          `mv e a/b/c/e; mv a/b/c/e/f e; mv a e/a; echo n >e/a/b/c/n`,
	"made again after a move":        `mv a x; mkdir -p a/b; echo n >a/b/1; rm -r x/b; mv a/b x/b; rmdir a; mv x a`,
	"opaque, then moved":             `rm -r a; mkdir a; echo n >a/1; mv a e/a; mv e x; mkdir e; mv x/a a`,
	"opaque, a folder moved back in": `mv moving/in t; rm -r moving; mkdir moving; mv t moving/in; echo x >>g/1`,
	"removed after a move":           `mv a x; rm -r x; mv e x; rm -r x/f; rmdir x 2>/dev/null || rm -r x`,
	"a file in a folder's place":     `mv a x; echo file >a; mv x/b/c c; rm -r x; mkdir x; mv a x/b`,
	"made in, removed from":          `mv a x; for i in 1 2 3 4 5; do echo $i >x/n$i; mkdir x/d$i; done; rm x/n[24]; rmdir x/d3; rm x/1; mv x y; rm y/n1; mv y a`,
}

// TestIdentity does each scenario to a container and to a plain folder. Names,
// contents, link groups, link counts and times are the folder's; no inode
// number changes at copy-up, rename, link, commit of the running container or
// remount; and the commit, by our mount and by umoci, has the same links.
func TestIdentity(t *testing.T) {
	b := newBox(t)
	needTool(t, "umoci", "setfattr", "python3")
	names := slices.Sorted(maps.Keys(identityScenarios))
	plain := b.path("plain")
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Join(plain, name), 0o755))
		shell(t, filepath.Join(plain, name), identityLower)
	}
	pack(t, plain, b.path("lower.tar"))
	b.run("import", "-q", b.path("lower.tar"), "twin:0")
	lower := originalOf(t, plain)
	w := newTwin(t, 0, plain, b.mount("--name", "twin", "twin:0"))
	w.check("fresh")
	for i, name := range names {
		for _, root := range []string{w.plain, w.mount} {
			shell(t, filepath.Join(root, name), swap+identityScenarios[name])
		}
		if i == len(names)/2 {
			b.run("commit", "-q", "twin", "half:1")
			w.check("after a commit")
			w.assertTree("commit while mounted", b.mount("--read-only", "half:1"))
		}
	}
	w.check("live")
	w.assertDiff(b, "twin", lower)
	b.run("umount", w.mount)
	w.mount = b.mount("twin")
	w.check("remounted")
	w.assertDiff(b, "twin", lower)
	b.run("commit", "-q", "twin", "twin:1")
	w.assertTree("committed", b.mount("--read-only", "twin:1"))
	w.assertTree("unpacked", umociUnpack(t, b, "twin:1"))
}

// TestRenameCost counts what the rename of a lower folder costs: one request,
// and an upper that does not grow with what the folder holds.
func TestRenameCost(t *testing.T) {
	b := newBox(t)
	must(t, os.Mkdir(b.path("src"), 0o755))
	shell(t, b.path("src"), `mkdir -p one many to; echo 1 >one/1; for i in $(seq 1000); do mkdir many/$i; echo $i >many/$i/f; done`)
	pack(t, b.path("src"), b.path("src.tar"))
	b.run("import", "-q", b.path("src.tar"), "cost:1")
	mnt := b.mount("--name", "cost", "cost:1")
	upper := b.upper("cost")
	for i, folder := range []string{"one", "many"} {
		for _, name := range []string{folder, "to"} {
			must(t, unix.Access(filepath.Join(mnt, name), unix.R_OK))
		}
		before := countEntries(t, upper)
		cost := b.cost(mnt, func() {
			must(t, unix.Rename(filepath.Join(mnt, folder), filepath.Join(mnt, "to", folder)))
		})
		delete(cost, "LOOKUP") // of the name that is not there yet
		if cost["RENAME"]+cost["RENAME2"] != 1 || sum(cost) > 2 {
			t.Errorf("rename of %s: requests %v, want one", folder, cost)
		}
		// The folder, its new parent if that is not there yet, a whiteout.
		if grown := countEntries(t, upper) - before; grown > 3-i {
			t.Errorf("rename of %s: %d new entries in the upper", folder, grown)
		}
	}
	for i := range 1000 {
		name := fmt.Sprintf("to/many/%d/f", i+1)
		must(t, unix.Access(filepath.Join(mnt, name), unix.R_OK))
	}
}

func countEntries(t *testing.T, dir string) int {
	t.Helper()
	return len(plainInodes(t, dir))
}

package dirlower_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge/lowertest"
)

// stack is a growing number of generations, each written through an overlay
// mount over those before it.
type stack struct {
	t      *testing.T
	base   string
	layers []string // topmost first
	made   int
}

func newStack(t *testing.T) *stack {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	return &stack{t: t, base: t.TempDir()}
}

func (s *stack) dir(name string) string {
	s.t.Helper()
	path := filepath.Join(s.base, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// bottom adds the first layer, filled by a script.
func (s *stack) bottom(script string) {
	s.t.Helper()
	path := s.dir("bottom")
	sh(s.t, path, script)
	s.layers = []string{path}
}

const kernelOptions = "redirect_dir=on,metacopy=on,index=off,xino=off"

// mountKernel mounts the kernel's overlay of all layers; upper may be empty.
func (s *stack) mountKernel(dir, upper, work string) error {
	options := "lowerdir=" + strings.Join(s.layers, ":") + "," + kernelOptions
	if upper != "" {
		options += ",upperdir=" + upper + ",workdir=" + work
	} else if len(s.layers) == 1 {
		options = strings.Replace(options, "lowerdir=", "lowerdir="+s.dir(fmt.Sprint("empty", s.made))+":", 1)
	}
	return unix.Mount("overlay", dir, "overlay", 0, options)
}

// mountFuse mounts fuse-overlayfs over all layers.
func (s *stack) mountFuse(dir, upper, work string) error {
	options := "lowerdir=" + strings.Join(s.layers, ":")
	if upper != "" {
		options += ",upperdir=" + upper + ",workdir=" + work
	}
	out, err := exec.Command("fuse-overlayfs", "-o", options, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return nil
}

type mounter func(dir, upper, work string) error

// generation adds a layer: what change does to the mounted tree.
func (s *stack) generation(mount mounter, change func(dir string)) {
	s.t.Helper()
	s.made++
	upper, work := s.dir(fmt.Sprint("upper", s.made)), s.dir(fmt.Sprint("work", s.made))
	dir := s.dir(fmt.Sprint("mount", s.made))
	if err := mount(dir, upper, work); err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			unix.Unmount(dir, unix.MNT_DETACH)
			s.t.Errorf("unmount: %v", err)
		}
	}()
	change(dir)
	s.layers = append([]string{upper}, s.layers...)
}

func (s *stack) script(mount mounter, script string) {
	s.t.Helper()
	s.generation(mount, func(dir string) { s.t.Helper(); sh(s.t, dir, script) })
}

// shown returns what a read-only mount of all layers shows.
func (s *stack) shown(mount mounter) []string {
	s.t.Helper()
	dir := s.dir(fmt.Sprint("shown", s.made))
	if err := mount(dir, "", ""); err != nil {
		s.t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return lowertest.Folder(s.t, dir)
}

func (s *stack) tree() *dirlower.Tree {
	s.t.Helper()
	return open(s.t, dirlower.Options{Dirs: slices.Clone(s.layers), Root: true})
}

const bottomScript = `
mkdir -p a/b/c d e/f g h
for i in 1 2 3; do echo one $i > a/$i; echo two $i > a/b/$i; echo three $i > a/b/c/$i; echo d $i > d/$i; echo e $i > e/f/$i; done
head -c 300000 /dev/urandom > big; truncate -s 10M sparse; echo end >> sparse
ln a/1 hard; ln -s a/b link; mkfifo fifo; mknod dev c 1 3; mknod blk b 240 9
chmod 4755 a/2; chown 1:2 a/3; setfattr -n user.note -v text a/b; setfattr -n user.note -v text a/2
setfattr -n user.overlay.opaque -v mine g; echo g > g/g
touch -d @1000000000.123456789 d/1; touch h/empty`

// TestKernelGenerations reads what several generations of the kernel's
// overlayfs leave behind as that itself reads it.
func TestKernelGenerations(t *testing.T) {
	s := newStack(t)
	s.bottom(bottomScript)
	for i, script := range []string{
		`rm a/1; rm -r d; mkdir d; echo new > d/new; chmod 600 big; mv a/b moved; echo more > e/f/new`,
		`mv moved moved2; mv moved2/c moved2/cc; rm moved2/1; chown 7:8 moved2/2; mv big a/bigger; mkdir moved; echo x > moved/x`,
		`mv a aa; mv moved2 aa/b; rm -r e; mv d/new .; rm -r h; echo file > h`,
		`mv aa/b/cc deep; mv aa a; rm h; mkdir h; touch h/again; ln a/bigger second; chmod 640 sparse; mv sparse s2`,
		`mkdir -p x/y/z; mv deep x/y/z; mv x w; setfattr -n user.note -v other w/y/z/deep; setfattr -n trusted.overlay.opaque -v nested w`,
		`mv w/y/z/deep/3 a/b/3 ; rm -rf g/g; rm dev; mv link l2; chmod 1777 a/b; truncate -s 5 a/2`,
	} {
		s.script(s.mountKernel, script)
		lowertest.Same(t, fmt.Sprint("generation ", i+1), lowertest.Lower(t, s.tree()), s.shown(s.mountKernel))
	}
}

// TestFuseOverlayGenerations does so with fuse-overlayfs's layers.
func TestFuseOverlayGenerations(t *testing.T) {
	s := newStack(t)
	s.bottom(strings.ReplaceAll(bottomScript, "setfattr -n user.overlay.opaque -v mine g;", ""))
	for i, script := range []string{
		`rm a/1; rm -r d; mkdir d; echo new > d/new; chmod 600 big; rm -r a/b; echo more > e/f/new`,
		`mkdir a/b; echo back > a/b/1; rm -r e; echo e > e; mv big a/bigger`,
		`rm e; mkdir e; echo again > e/again; rm -r a; rm dev; touch a`,
	} {
		s.script(s.mountFuse, script)
		lowertest.Same(t, fmt.Sprint("generation ", i+1), lowertest.Lower(t, s.tree()), s.shown(s.mountFuse))
	}
}

// TestRandomGenerations makes random changes through the kernel's overlayfs,
// generation upon generation, and compares after each.
func TestRandomGenerations(t *testing.T) {
	rounds := 4
	if os.Getenv("UNIO_TEST_LONG") != "" {
		rounds = 60
	}
	for seed := range rounds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			s := newStack(t)
			s.bottom(bottomScript)
			r := &lowertest.Changer{Rand: rand.New(rand.NewPCG(uint64(seed), 1))}
			for g := range 6 {
				s.generation(s.mountKernel, func(dir string) {
					for range 60 {
						r.Step(dir)
					}
				})
				lowertest.Same(t, fmt.Sprint("generation ", g+1), lowertest.Lower(t, s.tree()), s.shown(s.mountKernel))
			}
		})
	}
}

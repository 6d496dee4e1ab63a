package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRandomOverlay does random things to `unio overlay` over plain folders and
// to a plain folder, with remounts. With its options at their defaults and with
// a plain upper, which the kernel's overlayfs then shows as unio did.
func TestRandomOverlay(t *testing.T) {
	for _, option := range []string{"", "plain"} {
		for seed := range uint64(rounds(3)) {
			t.Run(fmt.Sprintf("%s%d", option, seed), func(t *testing.T) { randomOverlay(t, 200+seed, option) })
		}
	}
}

func randomOverlay(t *testing.T, seed uint64, option string) {
	b := newBox(t)
	needTool(t, "setfattr")
	for _, name := range []string{"plain", "lower", "upper", "work", "mnt"} {
		must(t, os.Mkdir(b.path(name), 0o755))
	}
	// Of a folder as the lower such attributes are the union's own.
	shell(t, b.path("plain"), randomLower+"setfattr -x trusted.overlay.redirect b; setfattr -x trusted.unio.origin c")
	t.Cleanup(func() { detach(t, b.dir) })
	shell(t, b.dir, "cp -a plain/. lower")
	w := newTwin(t, seed, b.path("plain"), b.path("mnt"))
	// What was unlinked of a lower file's names before a remount is nowhere
	// written in a plain upper.
	w.lowerLinks = option == "plain"
	b.mountOverlay(option)
	w.check("fresh")
	ops := w.everyOp()
	if seed%2 == 1 {
		ops = w.linkOps()
	}
	for range 3 {
		w.do(60, ops)
		w.check("live")
		w.closeAll()
		must(t, unmount(w.mount))
		waitFree(t, b)
		b.mountOverlay(option)
		w.check("remounted")
	}
	must(t, unmount(w.mount))
	waitFree(t, b)
	if option == "plain" {
		w.assertKernelShows(b)
	}
}

// mountOverlay mounts the folders lower, upper and work of the box on mnt.
func (b *box) mountOverlay(option string) {
	b.t.Helper()
	options := "lowerdir=" + b.path("lower") + ",upperdir=" + b.path("upper") + ",workdir=" + b.path("work")
	if option != "" {
		options += "," + option
	}
	b.run("overlay", "-o", options, b.path("mnt"))
}

// assertKernelShows mounts the upper with the kernel's overlayfs.
func (w *twin) assertKernelShows(b *box) {
	w.t.Helper()
	must(w.t, os.RemoveAll(b.path("work")))
	must(w.t, os.Mkdir(b.path("work"), 0o755))
	options := "lowerdir=" + b.path("lower") + ",upperdir=" + b.path("upper") + ",workdir=" + b.path("work")
	must(w.t, unix.Mount("overlay", b.path("mnt"), "overlay", 0, options))
	defer func() { must(w.t, unmount(b.path("mnt"))) }()
	w.foreign = isUnioXattr
	w.assertTree("overlayfs", b.path("mnt"))
}

func isUnioXattr(name string) bool { return strings.HasPrefix(name, "trusted.unio.") }

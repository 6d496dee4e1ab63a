package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"unio/integration/debian"
)

// TestTour types what docs/tour.md shows, command by command, and compares
// what is printed with the page.
func TestTour(t *testing.T) {
	needRoot(t)
	needTool(t, "docker-registry", "busybox", "gcc")
	g := newGuide(t)
	for _, step := range tourSteps(t, "../docs/tour.md") {
		got := g.run(step)
		if err := compareTour(tourLines(strings.Join(step.output, "\n")), tourLines(got)); err != nil {
			t.Errorf("docs/tour.md:%d: %s\n%v\nall of the output:\n%s", step.line, step.command, err, got)
		}
	}
	if left := g.box.mountPoints(); len(left) > 0 {
		t.Errorf("mounts left: %q", left)
	}
}

// TestTourTranslated holds the translated page to the same commands and outputs.
func TestTourTranslated(t *testing.T) {
	blocks := func(path string) []string {
		page, err := os.ReadFile(path)
		must(t, err)
		var list []string
		for i, part := range strings.Split(string(page), "```") {
			if i%2 == 1 {
				list = append(list, part)
			}
		}
		return list
	}
	if want, got := blocks("../docs/tour.md"), blocks("../docs/tour.zh.md"); !slices.Equal(want, got) {
		for i := range min(len(want), len(got)) {
			if want[i] != got[i] {
				t.Fatalf("block %d differs:\n%s\n%s", i+1, want[i], got[i])
			}
		}
		t.Fatalf("%d blocks and %d", len(want), len(got))
	}
}

// A guide has what the tour needs around it: an empty store, a registry with a
// busybox in it, the tar of a Debian root.
type guide struct {
	t        *testing.T
	box      *box
	dir      string // where commands are typed
	registry string
	env      []string
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	b := newBox(t)
	g := &guide{t: t, box: b, dir: b.path("here"), registry: strings.Replace(registry(t), "127.0.0.1", "localhost", 1)}
	must(t, os.Mkdir(g.dir, 0o755))
	g.env = append(os.Environ(),
		"PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "HOME="+b.dir, "TERM=dumb", "NO_COLOR=1",
		"UNIO_ROOT="+b.store(), "UNIO_RUNROOT="+b.path("run"))
	t.Cleanup(func() { // containers of a tour that failed
		for _, id := range strings.Fields(b.try("ps", "-aq").stdout) {
			b.try("rm", "-f", id)
		}
	})
	other := newBox(t)
	archive := busyboxRoot(t, other.dir)
	shell(t, other.dir, `mkdir busybox-root/root; echo root:x:0:0:root:/root:/bin/sh >busybox-root/etc/passwd`)
	pack(t, other.path("busybox-root"), archive)
	other.run("import", "-c", `CMD ["sh"]`, archive, g.registry+"/busybox")
	other.run("push", "-q", g.registry+"/busybox")
	must(t, os.Symlink(debianTar(t, debian.Base), filepath.Join(g.dir, "debian.tar")))
	return g
}

// run runs one step and returns what a user would see.
func (g *guide) run(s tourStep) string {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "/bin/bash", "-c", strings.ReplaceAll(s.command, "localhost:5000", g.registry))
	cmd.Dir, cmd.Env = g.dir, g.env
	if s.interactive() {
		return g.typeInto(cmd, s.keys())
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		out = fmt.Appendf(out, "(%v)\n", err)
	}
	return string(out)
}

// typeInto runs a command on a terminal and types a line at each prompt.
func (g *guide) typeInto(cmd *exec.Cmd, keys []string) string {
	g.t.Helper()
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 200})
	must(g.t, err)
	defer f.Close()
	hung := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	var all bytes.Buffer
	typed := -1 // the row of the prompt that was answered last
	for buf := make([]byte, 4096); ; {
		n, err := f.Read(buf)
		all.Write(buf[:n])
		if err != nil { // EIO: nobody holds the other end any more
			break
		}
		if row := promptRow(all.String()); len(keys) > 0 && row > typed {
			_, err := f.WriteString(keys[0] + "\n")
			must(g.t, err)
			keys, typed = keys[1:], row
		}
	}
	if err := cmd.Wait(); err != nil {
		fmt.Fprintf(&all, "(%v)\n", err)
	}
	if len(keys) > 0 {
		fmt.Fprintf(&all, "(never typed: %q)\n", keys)
	}
	return all.String()
}

// promptRow is the row where a shell waits for a line; -1: it does not.
func promptRow(text string) int {
	rows := strings.Split(tourMasks[0].pattern.ReplaceAllString(text, ""), "\n")
	last := len(rows) - 1
	if m := prompt.FindStringSubmatch(rows[last]); m == nil || m[2] != "" {
		return -1
	}
	return last
}

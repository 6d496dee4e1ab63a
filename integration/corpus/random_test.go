package corpus

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestRandomCopies copies random trees over random images, whose names meet
// and whose links lead anywhere, and compares with docker's classic builder:
// what came out, or at which step the build failed. UNIO_TEST_LONG makes it
// hundreds; UNIO_TEST_SEED starts elsewhere.
func TestRandomCopies(t *testing.T) {
	b := newBench(t)
	n, seed := 3, uint64(1)
	if os.Getenv("UNIO_TEST_LONG") != "" {
		n = 200
	}
	if s, err := strconv.ParseUint(os.Getenv("UNIO_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	for i := range uint64(n) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			t.Parallel()
			g := &generator{rand.New(rand.NewPCG(seed+i, 0))}
			c := &dockerfileCase{name: fmt.Sprintf("random%d", seed+i)}
			dir := g.write(t)
			ours, theirs := b.build(t.Context(), unio, c, dir), b.build(t.Context(), classic, c, dir)
			if ours.err != nil || theirs.err != nil {
				if a, b := lastStep(ours.stdout), lastStep(theirs.stdout); (ours.err == nil) != (theirs.err == nil) || a != b {
					t.Errorf("unio: %v, at %s: %s\nclassic: %v, at %s: %s", ours.err, a, lastLine(ours.stderr), theirs.err, b, lastLine(theirs.stderr))
					showDockerfile(t, dir)
				}
				return
			}
			x, err := b.image(t.Context(), unio, c)
			must(t, err)
			y, err := b.image(t.Context(), classic, c)
			must(t, err)
			for _, d := range c.differences(classic, x, y) {
				t.Error(d)
			}
			if t.Failed() {
				showDockerfile(t, dir)
			}
		})
	}
}

func lastStep(out string) string {
	steps := regexp.MustCompile(`(?m)^Step \d+/\d+`).FindAllString(out, -1)
	if len(steps) == 0 {
		return ""
	}
	return steps[len(steps)-1]
}

func showDockerfile(t *testing.T, dir string) {
	text, _ := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	list, _ := exec.Command("sh", "-c", "cd "+dir+" && tar -tvf base.tar && find . -ls").CombinedOutput()
	t.Logf("%s\n%s", text, list)
}

// generator makes random things out of few names, so that they meet often.
type generator struct{ *rand.Rand }

func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }

// name is a path of one to three components.
func (g *generator) name() string {
	parts := make([]string, 1+g.IntN(3))
	for i := range parts {
		parts[i] = g.pick("a", "b", "c")
	}
	return strings.Join(parts, "/")
}

// target is that of a link: it may lead anywhere.
func (g *generator) target() string {
	return g.pick("", "/", "../", "../../../../", "./") + g.name() + g.pick("", "", "/..", "/")
}

func (g *generator) mode() os.FileMode {
	return os.FileMode([]uint32{0o755, 0o700, 0o750, 0o777}[g.IntN(4)])
}

// write makes a build context.
func (g *generator) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "base.tar"), g.base(t), 0o644))
	for range 4 + g.IntN(8) {
		g.entry(dir)
	}
	text := "FROM scratch\nADD base.tar /\n"
	for range 1 + g.IntN(5) {
		text += g.instruction()
	}
	must(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644))
	return dir
}

// entry makes one file, folder or link; what cannot be made is left out.
func (g *generator) entry(dir string) {
	at := filepath.Join(dir, g.name())
	if os.MkdirAll(filepath.Dir(at), 0o755) != nil {
		return
	}
	switch g.IntN(5) {
	case 0:
		_ = os.Symlink(g.target(), at)
	case 1, 2:
		if os.Mkdir(at, 0o755) == nil {
			_ = os.Chmod(at, g.mode())
		}
	default:
		if f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
			fmt.Fprint(f, g.Uint32())
			_ = f.Chmod(g.mode())
			_ = f.Close()
		}
	}
}

// base is the tar of an image.
func (g *generator) base(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	kinds := map[string]byte{}
	for range 4 + g.IntN(10) {
		name := g.name()
		kind := []byte{tar.TypeDir, tar.TypeDir, tar.TypeReg, tar.TypeSymlink}[g.IntN(4)]
		if kinds[name] != 0 || !foldersOnly(kinds, name) {
			continue
		}
		// Folders stand in the tar: docker refuses to make one that does not
		// where a file is in the way.
		for i := range name {
			if dir := name[:i]; name[i] == '/' && kinds[dir] == 0 {
				kinds[dir] = tar.TypeDir
				must(t, w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: int64(g.mode()), ModTime: made()}))
			}
		}
		kinds[name] = kind
		hdr := &tar.Header{Name: name, Typeflag: kind, Mode: int64(g.mode()), Uid: g.IntN(3), ModTime: made()}
		if kind == tar.TypeSymlink {
			hdr.Linkname = g.target()
		}
		must(t, w.WriteHeader(hdr))
	}
	must(t, w.Close())
	return buf.Bytes()
}

// foldersOnly reports whether all that is above a name can be folders.
func foldersOnly(kinds map[string]byte, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if k := kinds[dir]; k != 0 && k != tar.TypeDir {
			return false
		}
	}
	return true
}

func (g *generator) instruction() string {
	if g.IntN(8) == 0 {
		return "WORKDIR " + g.pick("/", "") + g.name() + "\n"
	}
	var sources []string
	for range 1 + g.IntN(4)/3 {
		sources = append(sources, g.source())
	}
	dest := g.pick("/", "", "./") + g.name() + g.pick("", "/", "/../c")
	if len(sources) > 1 || g.IntN(8) == 0 {
		dest += "/"
	}
	return fmt.Sprintf("%s %s %s\n", g.pick("COPY", "ADD"), strings.Join(sources, " "), dest)
}

func (g *generator) source() string {
	switch g.IntN(6) {
	case 0:
		return g.pick("*", "a*", "?/*", "a/[bc]", "*/*/*", "b/")
	case 1:
		return "."
	}
	return g.pick("", "/", "./") + g.name() + g.pick("", "", "/")
}

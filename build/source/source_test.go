package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/build/source"
	"unio/imagestore/layer"
)

// files makes files below a folder; a name that ends in "/" is a folder, a
// content that begins with "-> " a link.
func files(t *testing.T, dir string, list map[string]string) {
	t.Helper()
	for name, content := range list {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, link := strings.CutPrefix(content, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(at, 0o755)
		case link:
			err = os.Symlink(target, at)
		default:
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// names lists a tree, links with their targets.
func names(t *testing.T, tree source.Tree, dir string) (list []string) {
	t.Helper()
	entries, err := tree.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name)
		switch {
		case e.IsLink():
			list = append(list, at+"->"+e.Target)
		case e.IsDir():
			list = append(append(list, at+"/"), names(t, tree, at)...)
		default:
			list = append(list, at)
		}
	}
	return list
}

func open(t *testing.T, dir string, ignore ...string) *source.Folder {
	t.Helper()
	f, err := source.OpenFolder(dir, source.Options{Ignore: ignore})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func same(t *testing.T, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestFolderAndTar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files(t, dir, map[string]string{"a": "1", "d/b": "22", "d/l": "-> ../../../etc/passwd", "e/": "", "d/odd \n\xff": "3"})
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "d/hard")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "a"), "user.k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	packed, err := exec.Command("tar", "-C", dir, "--xattrs", "-cz", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := source.OpenTar(t.Context(), bytes.NewReader(packed), source.Options{Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for what, tree := range map[string]source.Tree{"folder": open(t, dir), "tar": archive} {
		same(t, names(t, tree, ""), "a d/ d/b d/hard d/l->../../../etc/passwd d/odd \n\xff e/")
		a, err1 := tree.Lstat("a")
		hard, err2 := tree.Lstat("d/hard")
		if err1 != nil || err2 != nil || a.ID != hard.ID || a.ID == (source.FileID{}) || a.Xattrs["user.k"] != "v" || a.UID != 0 {
			t.Errorf("%s: %+v %v, %+v %v", what, a, err1, hard, err2)
		}
		if b, err := tree.Lstat("d/b"); err != nil || b.ID != (source.FileID{}) || b.Size != 2 {
			t.Errorf("%s: %+v, %v", what, b, err)
		}
		if data, err := source.ReadFile(tree, "d/b", 10); err != nil || string(data) != "22" {
			t.Errorf("%s: %q, %v", what, data, err)
		}
		for _, name := range []string{"none", "a/x", "d/l", "d/l/x"} {
			if _, err := source.ReadFile(tree, name, 10); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s: %v", what, name, err)
			}
		}
		if _, err := source.ReadFile(tree, "d/b", 1); !errors.Is(err, source.ErrInvalid) {
			t.Errorf("%s: no limit: %v", what, err)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"r/f": "", "abs": "-> /r", "rel": "-> r/../abs", "up": "-> ../../../../r/f", "loop": "-> loop2", "loop2": "-> loop",
		"dangling": "-> none/x", "r/back": "-> ..", "chain": "-> rel/back/abs/f",
	})
	tree := open(t, dir)
	for name, want := range map[string]string{
		"abs/f": "r/f", "rel/f": "r/f", "up": "r/f", "chain": "r/f", "r/back": "", "r/back/r/back/r/f": "r/f", "../../r": "r", "": "",
	} {
		if got, err := source.Resolve(tree, name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{"loop": unix.ELOOP, "dangling": fs.ErrNotExist, "r/f/x": fs.ErrNotExist} {
		if got, err := source.Resolve(tree, name); !errors.Is(err, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := source.ResolveMissing(tree, "abs/new/../dangling"); got != "none/x" && got != "r/dangling" || err != nil {
		t.Errorf("missing: %q, %v", got, err)
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files(t, dir, map[string]string{"a.go": "", "b.go": "", "c.txt": "", "d/e.go": "", "d/f/g.go": "", "l": "-> d", "[x]": "", ".hid": ""})
	tree := open(t, dir)
	for pattern, want := range map[string]string{
		"*.go": "a.go b.go", "?.txt": "c.txt", "*/*.go": "d/e.go", "l/*.go": "d/e.go", "*": ".hid [x] a.go b.go c.txt d l",
		"[ab].*": "a.go b.go", `\[x]*`: "[x]", "none/*": "", "c.txt/*": "", "d/*/*": "d/f/g.go", "/d/*.go": "d/e.go",
	} {
		got, err := source.Glob(tree, pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
		same(t, got, want)
	}
	if _, err := source.Glob(tree, "[a*"); !errors.Is(err, source.ErrInvalid) {
		t.Error(err)
	}
}

func TestIgnore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"keep": "", "x.log": "", "sub/y.log": "", "node/big": "", "node/deep/want": "", "node/deep/other": "", "Dockerfile": "",
		".dockerignore": "\ufeff# all logs\n**/*.log\n/node\n!node/deep/want\n\n", "Other.dockerignore": "keep\n",
	})
	tree := open(t, dir)
	patterns, err := source.ReadIgnore(tree, "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	want := ".dockerignore Dockerfile Other.dockerignore keep node/ node/deep/ node/deep/want sub/"
	seen := open(t, dir, patterns...)
	same(t, names(t, seen, ""), want)
	wrapped, err := source.Filter(tree, patterns)
	if err != nil {
		t.Fatal(err)
	}
	same(t, names(t, wrapped, ""), want)
	for _, tree := range []source.Tree{seen, wrapped} {
		if _, err := tree.Lstat("node/big"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := tree.Open("x.log"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := tree.Lstat("node/deep"); err != nil {
			t.Error(err)
		}
	}
	if patterns, err = source.ReadIgnore(tree, "Other"); err != nil || fmt.Sprint(patterns) != "[keep]" {
		t.Errorf("%q, %v", patterns, err)
	}
	if _, err := source.Filter(tree, []string{"[a"}); !errors.Is(err, source.ErrInvalid) {
		t.Error(err)
	}
}

// TestFolderUnderAttack swaps a folder for a link to the outside while it is
// read: nothing of the outside is ever seen.
func TestFolderUnderAttack(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	files(t, outside, map[string]string{"f": "secret"})
	files(t, dir, map[string]string{"d/f": "public", "spare": "-> " + outside})
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "spare"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	tree, read := open(t, dir), 0
	for range 3000 {
		data, err := source.ReadFile(tree, "d/f", 100)
		if err == nil {
			read++
			if string(data) != "public" {
				t.Errorf("read %q", data)
				break
			}
		}
		if list, err := tree.ReadDir("d"); err == nil && (len(list) != 1 || list[0].Size != 6) {
			t.Errorf("listed %v", list)
		}
	}
	close(done)
	<-stopped
	t.Logf("%d of 3000 were read", read)
}

func TestTarRefuses(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	_ = w.WriteHeader(&tar.Header{Name: "d/.wh.x", Typeflag: tar.TypeReg})
	_ = w.Close()
	if _, err := source.OpenTar(t.Context(), &buf, source.Options{Temp: t.TempDir()}); !errors.Is(err, layer.ErrReservedName) {
		t.Error(err)
	}
	if _, err := source.OpenTar(t.Context(), strings.NewReader(strings.Repeat("no tar ", 500)), source.Options{Temp: t.TempDir()}); !errors.Is(err, source.ErrInvalid) {
		t.Error(err)
	}
	var cut bytes.Buffer
	z := gzip.NewWriter(&cut)
	_, _ = z.Write(make([]byte, 4096))
	_ = z.Close()
	if _, err := source.OpenTar(t.Context(), io.LimitReader(&cut, 20), source.Options{Temp: t.TempDir()}); err == nil {
		t.Error("a cut archive was taken")
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dir/file.txt":
			w.Header().Set("Last-Modified", when.Format(http.TimeFormat))
		case "/named/":
			w.Header().Set("Content-Disposition", `attachment; filename="../../x.tgz"`)
		case "/":
		default:
			http.Error(w, "gone fishing", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, "content")
	}))
	defer server.Close()
	for at, want := range map[string]string{"/dir/file.txt": "file.txt", "/named/": "x.tgz", "/": "__unnamed__", "/dir/file.txt?a=/b": "file.txt"} {
		r, err := source.Download(t.Context(), source.Request{URL: server.URL + at, Temp: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		data, err := source.ReadFile(r, want, 100)
		if r.Name != want || string(data) != "content" || err != nil || r.Unnamed != (at == "/") {
			t.Errorf("%s: %q %q %v", at, r.Name, data, err)
		}
		if e, err := r.Lstat(want); err != nil || e.Mode&0o777 != 0o600 || strings.HasPrefix(at, "/dir") && !e.ModTime.Equal(when) {
			t.Errorf("%s: %+v %v", at, e, err)
		}
		r.Close()
	}
	good := digest.FromString("content")
	for sum, want := range map[digest.Digest]error{good: nil, digest.FromString("other"): source.ErrChecksum, "md5:x": source.ErrInvalid} {
		r, err := source.Download(t.Context(), source.Request{URL: server.URL + "/dir/file.txt", Checksum: sum, Temp: t.TempDir()})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", sum, err)
		}
		if err == nil {
			r.Close()
		}
	}
	address := strings.Replace(server.URL, "http://", "http://me:secret@", 1) + "/none"
	_, err := source.Download(t.Context(), source.Request{URL: address, Temp: t.TempDir()})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasSuffix(err.Error(), "with status 404 Not Found: gone fishing") {
		t.Error(err)
	}
	server.Close()
	if _, err := source.Download(t.Context(), source.Request{URL: address}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestGit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2021-01-01T00:00:00Z", "GIT_AUTHOR_DATE=2021-01-01T00:00:00Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	files(t, dir, map[string]string{"a": "1", "sub/run.sh": "#!/bin/sh\n", "sub/l": "-> /etc"})
	if err := os.Chmod(filepath.Join(dir, "sub/run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-qm", "one")
	git("tag", "v1")
	files(t, dir, map[string]string{"b": "2"})
	git("add", ".")
	git("commit", "-qm", "two")
	first, err := exec.Command("git", "-C", dir, "rev-parse", "v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(string(first))
	for fragment, want := range map[string]string{
		"": "a b sub/ sub/l->/etc sub/run.sh", "#v1": "a sub/ sub/l->/etc sub/run.sh", "#main:sub": "l->/etc run.sh",
		"#:sub": "l->/etc run.sh", "#" + commit: "a sub/ sub/l->/etc sub/run.sh",
	} {
		g, err := source.OpenGit(t.Context(), "file://"+dir+fragment, source.Options{Temp: t.TempDir()})
		if err != nil {
			t.Errorf("%s: %v", fragment, err)
			continue
		}
		same(t, names(t, g, ""), want)
		if e, err := g.Lstat(strings.Fields(want)[0]); len(g.Commit) != 40 || err == nil && e.IsRegular() && (e.Mode&0o777 != 0o644 || e.ModTime.Unix() != 1609459200) {
			t.Errorf("%s: %+v, %v", g.Commit, e, err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	temp := t.TempDir()
	for _, bad := range []string{"file://" + dir + "#none", "file://" + dir + "#main:none", "--upload-pack=x", "file://" + dir + "#--x", "ext::sh -c id#x"} {
		if g, err := source.OpenGit(t.Context(), bad, source.Options{Temp: temp}); err == nil {
			t.Errorf("%s: %v", bad, g)
		}
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

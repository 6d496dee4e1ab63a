package source_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"unio/build/source"
)

// linkTree has links of the targets given under the names a, b, c …, and a
// folder "dir" with a file.
type linkTree []string

func (l linkTree) Lstat(name string) (source.Entry, error) {
	switch {
	case name == "" || name == "dir":
		return source.Entry{Mode: unix.S_IFDIR | 0o755}, nil
	case name == "dir/file":
		return source.Entry{Mode: unix.S_IFREG}, nil
	case len(name) == 1 && int(name[0]-'a') < len(l):
		return source.Entry{Mode: unix.S_IFLNK, Target: l[name[0]-'a']}, nil
	}
	return source.Entry{}, fs.ErrNotExist
}

// FuzzResolve follows links of any kind: what comes out is a clean name inside
// of the tree that is no link.
func FuzzResolve(f *testing.F) {
	f.Add("a/file", "dir\n../../b\n/a/..")
	f.Add("a/../b/./c//", "b\na\n")
	f.Add("../../dir/file", "")
	f.Fuzz(func(t *testing.T, name, targets string) {
		tree := linkTree(strings.Split(targets, "\n"))
		for _, resolve := range []func(source.Lstater, string) (string, error){source.Resolve, source.ResolveMissing} {
			at, err := resolve(tree, name)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ELOOP) {
					t.Fatal(err)
				}
				continue
			}
			if at != source.Clean(at) || strings.HasPrefix(at, "../") {
				t.Fatalf("%q leads to %q", name, at)
			}
			if e, err := tree.Lstat(at); err == nil && e.IsLink() {
				t.Fatalf("%q leads to the link %q", name, at)
			}
		}
	})
}

// FuzzParseIgnore reads any .dockerignore and asks for names: nothing panics,
// and the root is always in sight.
func FuzzParseIgnore(f *testing.F) {
	f.Add([]byte("# c\n*\n!a/**/b\n/x/../y\n[a-\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		patterns, err := source.ParseIgnore(bytes.NewReader(data))
		if err != nil {
			return
		}
		tree, err := source.Filter(source.OpenText(source.Text{Name: "a"}), patterns)
		if err != nil {
			return
		}
		if _, err := tree.Lstat(""); err != nil {
			t.Fatal(err)
		}
		_, _ = tree.ReadDir("")
	})
}

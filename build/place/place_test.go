package place_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/build/place"
	"unio/build/source"
)

// spec describes files, one a line: PATH [MODE [UID:GID]] and, behind "=", the
// content, or behind "->", the target of a link. A path that ends in "/" is a
// folder.
func archive(t *testing.T, spec string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for line := range strings.Lines(spec) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		hdr, data := parseLine(t, line)
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func parseLine(t *testing.T, line string) (*tar.Header, string) {
	t.Helper()
	line, data, _ := strings.Cut(line, "=")
	line, target, link := strings.Cut(line, "->")
	words := strings.Fields(line)
	hdr := &tar.Header{Name: words[0], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(data))}
	switch {
	case link:
		hdr.Typeflag, hdr.Linkname, hdr.Mode = tar.TypeSymlink, strings.TrimSpace(target), 0o777
	case strings.HasSuffix(hdr.Name, "/"):
		hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
	}
	if len(words) > 1 {
		if _, err := fmt.Sscanf(words[1], "%o", &hdr.Mode); err != nil {
			t.Fatal(line, err)
		}
	}
	if len(words) > 2 {
		if _, err := fmt.Sscanf(words[2], "%d:%d", &hdr.Uid, &hdr.Gid); err != nil {
			t.Fatal(line, err)
		}
	}
	return hdr, data
}

// tree makes a tree of a description.
func tree(t *testing.T, spec string) source.Tree {
	t.Helper()
	x, err := source.OpenTar(t.Context(), bytes.NewReader(archive(t, spec)), source.Options{KeepOwners: true, Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// list describes a layer in the form that archive reads.
func list(t *testing.T, layer []byte) string {
	t.Helper()
	var out strings.Builder
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %o %d:%d", hdr.Name, hdr.Mode, hdr.Uid, hdr.Gid)
		data, _ := io.ReadAll(r)
		switch hdr.Typeflag {
		case tar.TypeReg:
			fmt.Fprintf(&out, " =%s", data)
		case tar.TypeSymlink:
			fmt.Fprintf(&out, " -> %s", hdr.Linkname)
		case tar.TypeLink:
			fmt.Fprintf(&out, " link to %s", hdr.Linkname)
		}
		out.WriteByte('\n')
	}
}

const files = `
	a.txt =A
	b.txt 0755 =B
	link -> d
	flink -> a.txt
	up -> ../../a.txt
	d/ 0750 7:8
	d/x =X
	d/l -> x
	d/s/
	d/s/y 0600 =Y
`

const image = `
	etc/
	etc/passwd =root:x:0:0::/:/bin/sh
	etc/group =
	usr/ 0711 1:1
	usr/l -> /opt/real
	opt/
	opt/real/ 0700 5:6
	opt/real/s/ 0701 9:9
	opt/real/s/old =old
	opt/file =file
	dangling -> /made/here
`

func TestPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		c    place.Copy
		want string
	}{
		"file as":   {place.Copy{Sources: []string{"a.txt"}, Dest: "/x/y"}, "x/ 755 0:0\nx/y 644 0:0 =A\n"},
		"file into": {place.Copy{Sources: []string{"a.txt"}, Dest: "/x/"}, "x/ 755 0:0\nx/a.txt 644 0:0 =A\n"},
		"file into existing": {
			place.Copy{Sources: []string{"a.txt"}, Dest: "/usr"},
			"usr/ 711 1:1\nusr/a.txt 644 0:0 =A\n",
		},
		"through a link": {
			place.Copy{Sources: []string{"a.txt"}, Dest: "/usr/l"},
			"opt/ 755 0:0\nopt/real/ 700 5:6\nopt/real/a.txt 644 0:0 =A\n",
		},
		"dangling": {place.Copy{Sources: []string{"a.txt"}, Dest: "/dangling/"}, "made/ 755 0:0\nmade/here/ 755 0:0\nmade/here/a.txt 644 0:0 =A\n"},
		"workdir":  {place.Copy{Sources: []string{"b.txt"}, Dest: ".", Workdir: "/w"}, "w/ 755 0:0\nw/b.txt 755 0:0 =B\n"},
		"relative": {place.Copy{Sources: []string{"b.txt"}, Dest: "v", Workdir: "/w"}, "w/ 755 0:0\nw/v 755 0:0 =B\n"},
		"two":      {place.Copy{Sources: []string{"b.txt", "/a.txt"}, Dest: "z/"}, "z/ 755 0:0\nz/a.txt 644 0:0 =A\nz/b.txt 755 0:0 =B\n"},
		"wildcard": {place.Copy{Sources: []string{"*.txt"}, Dest: "/"}, "a.txt 644 0:0 =A\nb.txt 755 0:0 =B\n"},
		"folder": {
			place.Copy{Sources: []string{"d"}, Dest: "/new"},
			"new/ 755 0:0\nnew/l 777 0:0 -> x\nnew/s/ 755 0:0\nnew/s/y 600 0:0 =Y\nnew/x 644 0:0 =X\n",
		},
		"folder merges": {
			place.Copy{Sources: []string{"d/"}, Dest: "/opt/real/"},
			"opt/ 755 0:0\nopt/real/ 700 5:6\nopt/real/l 777 0:0 -> x\nopt/real/s/ 755 0:0\nopt/real/s/y 600 0:0 =Y\nopt/real/x 644 0:0 =X\n",
		},
		"link to folder":         {place.Copy{Sources: []string{"link"}, Dest: "/q", Exclude: []string{"s", "l"}}, "q/ 755 0:0\nq/x 644 0:0 =X\n"},
		"link to file":           {place.Copy{Sources: []string{"flink"}, Dest: "/q/"}, "q/ 755 0:0\nq/flink 644 0:0 =A\n"},
		"link out stays inside":  {place.Copy{Sources: []string{"up"}, Dest: "/q/"}, "q/ 755 0:0\nq/up 644 0:0 =A\n"},
		"link over":              {place.Copy{Sources: []string{"d"}, Dest: "/q", Link: true, Chown: "3"}, "q/ 755 3:3\nq/l 777 3:3 -> x\nq/s/ 755 3:3\nq/s/y 600 3:3 =Y\nq/x 644 3:3 =X\n"},
		"link ignores the image": {place.Copy{Sources: []string{"a.txt"}, Dest: "/usr", Link: true}, "usr 644 0:0 =A\n"},
		"chmod":                  {place.Copy{Sources: []string{"a.txt"}, Dest: "/q", Chmod: "4711"}, "q 4711 0:0 =A\n"},
		"chmod symbolic":         {place.Copy{Sources: []string{"d"}, Dest: "/q", Chmod: "g=u,o-rwx,u+X", Exclude: []string{"l", "x"}}, "q/ 755 0:0\nq/s/ 770 0:0\nq/s/y 660 0:0 =Y\n"},
		"chown root":             {place.Copy{Sources: []string{"a.txt"}, Dest: "/q", Chown: "root:12"}, "q 644 0:12 =A\n"},
		"parents":                {place.Copy{Sources: []string{"d/s/y"}, Dest: "/p", Parents: true}, "p/ 755 0:0\np/d/ 750 7:8\np/d/s/ 755 0:0\np/d/s/y 600 0:0 =Y\n"},
		"parents pivot":          {place.Copy{Sources: []string{"d/./s/y"}, Dest: "/p", Parents: true}, "p/ 755 0:0\np/s/ 755 0:0\np/s/y 600 0:0 =Y\n"},
		"parents wildcard":       {place.Copy{Sources: []string{"**/y", "*.txt"}, Dest: "/", Parents: true}, "a.txt 644 0:0 =A\nb.txt 755 0:0 =B\nd/ 750 7:8\nd/s/ 755 0:0\nd/s/y 600 0:0 =Y\n"},
		"here-document": {
			place.Copy{More: []place.Part{{Tree: source.OpenText(source.Text{Name: "EOF", Content: "hi\n"}), Name: "EOF"}}, Dest: "/t"},
			"t 644 0:0 =hi\n\n",
		},
		"exclude wildcard": {place.Copy{Sources: []string{"*.txt"}, Dest: "/", Exclude: []string{"a*"}}, "b.txt 755 0:0 =B\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.c.From = tree(t, files)
			if got := layerOf(t, &test.c, tree(t, image)); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

// layerOf runs a copy as a build does, digest first.
func layerOf(t *testing.T, c *place.Copy, below source.Tree) string {
	t.Helper()
	var buf bytes.Buffer
	_, err := c.Digest(t.Context())
	if err == nil {
		err = c.WriteTarOver(t.Context(), below, &buf)
	}
	if err != nil {
		return err.Error()
	}
	return list(t, buf.Bytes())
}

// deep is the tree of BuildKit's documentation of --parents.
const deep = `
	t/a/b/c/d/foo =1
	t/a/b/c/d/e/bay =2
	t/a/b2/c/d/e/bar =3
	t/a/b/c2/d/e/baz =4
	t/a/b/c2/d/e2/baz =5
`

// TestParentsAndExclude holds to what BuildKit documents of --parents and
// --exclude, by the names of the files that come out.
func TestParentsAndExclude(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tree, source, exclude, want string
	}{
		{deep, "/t/a/b/./c/d", "", "o/c/d/e/bay o/c/d/foo"},
		{deep, "/t/a/b/c/d/.", "", "o/t/a/b/c/d/e/bay o/t/a/b/c/d/foo"},
		{deep, "./t/a/b/c/d", "", "o/t/a/b/c/d/e/bay o/t/a/b/c/d/foo"},
		{deep, "/t/a/./b/./c", "", "o/b/c/d/e/bay o/b/c/d/foo"},
		{deep, "/t/a/./*/c", "", "o/b/c/d/e/bay o/b/c/d/foo o/b2/c/d/e/bar"},
		{deep, "/t/a/b*/./c/**/e", "", "o/c/d/e/bar o/c/d/e/bay"},
		{deep, "/t/a/b/c*/./d/**/baz /t/a/b*/./c/**/bar", "", "o/c/d/e/bar o/d/e/baz o/d/e2/baz"},
		{deep, "/t/a/b9*/c", "", ""},
		{deep, "/t/a/b/./c9*", "", ""},
		{deep, "t", "**/baz t/a/b2", "o/t/a/b/c/d/e/bay o/t/a/b/c/d/foo"},
	} {
		c := place.Copy{From: tree(t, test.tree), Sources: strings.Fields(test.source), Exclude: strings.Fields(test.exclude), Dest: "/o/", Parents: true}
		if got := fileNames(layerOf(t, &c, nil)); got != test.want {
			t.Errorf("--parents %s: %s, want %s", test.source, got, test.want)
		}
	}
	const images = "d1/1.png =1\nd1/2.txt =2\nd2/3.pdf =3\nd2/x/4.png =4\nd3/5.mp3 =5\n6.txt =6\n7.md =7"
	for _, test := range []struct{ source, exclude, want string }{
		{".", "*/*.png */*.mp3", "o/6.txt o/7.md o/d1/2.txt o/d2/3.pdf o/d2/x/4.png"},
		{".", "**/*.png", "o/6.txt o/7.md o/d1/2.txt o/d2/3.pdf o/d3/5.mp3"},
		{"d3/", "*.mp3", ""},
		{"d*", "*.png *.mp3", "o/2.txt o/3.pdf o/x/4.png"},
		{"d*", "*", ""},
		{"[67].*", "*.txt", "o/7.md"},
		{"[67].*", "*.txt *.md", ""},
		{"d2", "* !x/4.png", "o/x/4.png"},
	} {
		c := place.Copy{From: tree(t, images), Sources: []string{test.source}, Exclude: strings.Fields(test.exclude), Dest: "/o/"}
		if got := fileNames(layerOf(t, &c, nil)); got != test.want {
			t.Errorf("--exclude %s of %s: %s, want %s", test.exclude, test.source, got, test.want)
		}
	}
}

// fileNames picks the names of files from a list.
func fileNames(list string) string {
	var names []string
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func TestPlaceErrors(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]place.Copy{
		"COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist": {Sources: []string{"none"}, Dest: "/"},
		"COPY failed: stat none: file does not exist":                                                               {Sources: []string{"none"}, Dest: "/", Stage: true},
		"ADD failed: no source files were specified":                                                                {Sources: []string{"z*"}, Dest: "/", Add: true},
		"COPY failed: forbidden path outside the build context: ../x ()":                                            {Sources: []string{"../x"}, Dest: "/"},
		"When using COPY with more than one source file, the destination must be a directory and end with a /":      {Sources: []string{"*.txt"}, Dest: "/x"},
		"unable to convert uid/gid chown string to host mapping: can't find uid for user me: no such user: me":      {Sources: []string{"a.txt"}, Dest: "/", Chown: "me"},
		"unable to convert uid/gid chown string to host mapping: can't find gid for group us: no such group: us":    {Sources: []string{"a.txt"}, Dest: "/", Chown: "root:us"},
		"invalid chmod parameter: '8'. it should be octal string and between 0 and 07777":                           {Sources: []string{"a.txt"}, Dest: "/", Chmod: "8"},
		"failed to copy files: failed to copy directory: mkdir /opt/file: not a directory":                          {Sources: []string{"d"}, Dest: "/opt/file"},
		"failed to copy files: failed to create new directory: mkdir /opt/file: not a directory":                    {Sources: []string{"a.txt"}, Dest: "/opt/file/"},
		"failed to copy files: lstat /opt/file/x: not a directory":                                                  {Sources: []string{"a.txt"}, Dest: "/opt/file/x/y"},
	} {
		c.From = tree(t, files)
		if got := layerOf(t, &c, tree(t, image)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAddUnpacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := archive(t, "in/ 0700 4:5\nin/f 0640 4:5 =F\n../../etc/shadow =no\nlnk -> /etc\n")
	if err := os.WriteFile(filepath.Join(dir, "x.tar"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := source.OpenFolder(dir, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	c := place.Copy{From: from, Sources: []string{"x.tar"}, Dest: "/to", Add: true}
	want := "to/ 755 0:0\nto/etc/ 755 0:0\nto/etc/shadow 644 0:0 =no\nto/in/ 700 4:5\nto/in/f 640 4:5 =F\nto/lnk 777 0:0 -> /etc\n"
	if got := layerOf(t, &c, nil); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestDigest changes one thing after the other: the digest follows all that
// gets into a layer, and nothing else.
func TestDigest(t *testing.T) {
	t.Parallel()
	sum := func(spec string) string {
		c := place.Copy{From: tree(t, spec), Sources: []string{"d"}, Dest: "/"}
		d, err := c.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	base := sum("d/\nd/f =1\n")
	if base != sum("other =x\nd/\nd/f =1\n") {
		t.Error("what is not copied changes the digest")
	}
	seen := map[string]string{base: "base"}
	for _, spec := range []string{"d/\nd/f =2\n", "d/\nd/g =1\n", "d/\nd/f 0600 =1\n", "d/\nd/f 0644 1:0 =1\n", "d/\nd/f -> 1\n", "d/\nd/f =1\nd/e/\n"} {
		s := sum(spec)
		if other, ok := seen[s]; ok {
			t.Errorf("%q has the digest of %q", spec, other)
		}
		seen[s] = spec
	}
}

package output_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"unio/build/output"
	"unio/build/source"
	"unio/imagestore"
	"unio/imagestore/archive"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]output.Spec{
		"out":                             {Type: output.Local, Dest: "out"},
		"-":                               {Type: output.Tar, Dest: "-"},
		"type=local,dest=a":               {Type: output.Local, Dest: "a"},
		`type=tar,"dest=a,b"`:             {Type: output.Tar, Dest: "a,b"},
		"type=oci,dest=x.tar,name=n:1":    {Type: output.OCI, Dest: "x.tar", Name: "n:1"},
		"type=docker":                     {Type: output.Docker},
		"type=image,name=localhost:5/a:1": {Type: output.Image, Name: "localhost:5/a:1"},
	} {
		if got, err := output.Parse(value); got != want || err != nil {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "type=local", "type=local,dest=-", "type=foo,dest=x", "dest=x,name=y", "type=tar,push=true", "type=tar,x", "type=image,dest=x"} {
		if got, err := output.Parse(value); !errors.Is(err, output.ErrInvalid) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
}

// pack makes a tar of empty files and folders, "content" in regular ones.
func pack(t *testing.T, list ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range list {
		data := ""
		if h.Typeflag == tar.TypeReg {
			data = "content"
			h.Size = int64(len(data))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func image(t *testing.T) []byte {
	return pack(
		t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 5},
		tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 5, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
		tar.Header{Name: "d/h", Typeflag: tar.TypeLink, Linkname: "d/f"},
		tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo},
		tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		tar.Header{Name: "trap/", Typeflag: tar.TypeDir, Mode: 0o555},
		tar.Header{Name: "trap/x", Typeflag: tar.TypeReg, Mode: 0o400},
	)
}

func TestWriteFolder(t *testing.T) {
	t.Parallel()
	tree, err := source.OpenTar(t.Context(), bytes.NewReader(image(t)), source.Options{KeepOwners: true, Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	dir, outside := filepath.Join(t.TempDir(), "new/out"), t.TempDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Links that lie in wait where the image has a folder and a file.
	for name, target := range map[string]string{"trap": outside, "fifo": outside + "/f", "stays": "x"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time over the first
		if err := output.WriteFolder(t.Context(), tree, dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir {
			fi, _ := d.Info()
			st := fi.Sys().(*syscall.Stat_t)
			got = append(got, fmt.Sprintf("%s %s %d %d", p[len(dir)+1:], fi.Mode(), st.Uid, st.Nlink))
		}
		return err
	})
	want := "d drwxr-x--- 0 2, d/f -rwxr-xr-x 0 2, d/h -rwxr-xr-x 0 2, fifo prwxr-xr-x 0 1, out Lrwxrwxrwx 0 1, stays Lrwxrwxrwx 0 1, trap dr-xr-xr-x 0 2, trap/x -r-------- 0 1"
	if s := strings.Join(got, ", "); s != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", s, err, want)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
	buf := make([]byte, 100)
	if n, err := syscall.Getxattr(filepath.Join(dir, "d/f"), "user.k", buf); string(buf[:max(n, 0)]) != "v" {
		t.Error(n, err)
	}
	if _, err := syscall.Getxattr(filepath.Join(dir, "d/f"), "security.capability", buf); !errors.Is(err, syscall.ENODATA) {
		t.Error("the file has capabilities:", err)
	}
}

// stored puts an image of one layer into a new store.
func stored(t *testing.T) output.Result {
	t.Helper()
	st, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := st.AddLayer(t.Context(), bytes.NewReader(image(t)), imagestore.LayerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%q]}}`, l.DiffID)
	img, err := st.AddImage(t.Context(), imagestore.NewImage{Config: []byte(config), Names: []string{"name:1"}})
	if err != nil {
		t.Fatal(err)
	}
	return output.Result{Store: st, Image: img}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	r := stored(t)
	dir := t.TempDir()
	for _, s := range []output.Spec{
		{Type: output.Local, Dest: filepath.Join(dir, "d")},
		{Type: output.Tar, Dest: filepath.Join(dir, "t.tar")},
		{Type: output.OCI, Dest: filepath.Join(dir, "o.tar")},
		{Type: output.Image},
	} {
		if err := s.Write(t.Context(), r); err != nil {
			t.Errorf("%s: %v", s.Type, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "d/d/h")); string(data) != "content" {
		t.Error(err)
	}
	var out bytes.Buffer
	r.Stdout = &out
	if err := (&output.Spec{Type: output.Tar}).Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "t.tar"))
	if err != nil || !bytes.Equal(file, out.Bytes()) {
		t.Errorf("%d bytes in the file, %d on standard output, %v", len(file), out.Len(), err)
	}
	other, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := archive.Load(t.Context(), other, archive.Source{Path: filepath.Join(dir, "o.tar")}, archive.LoadOptions{})
	if err != nil || len(loaded) != 1 || loaded[0].ID != r.Image.ID || loaded[0].ID == "" {
		t.Errorf("%+v, %v", loaded, err)
	}
	if err := (&output.Spec{Type: output.Tar, Dest: filepath.Join(dir, "none/x")}).Write(t.Context(), r); err == nil {
		t.Error("written into a folder that is not there")
	}
}

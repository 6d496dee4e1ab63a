package layermount

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"unio/imagestore"
	"unio/unionfs/transport/transporttest"
)

// serverRoot names, in the environment, the store of a process that is to be
// the server.
const serverRoot = "LAYERMOUNT_TEST_STORE"

// TestMain lets this test binary be the server, too.
func TestMain(m *testing.M) {
	if root := os.Getenv(serverRoot); root != "" {
		os.Exit(serve(root))
	}
	os.Exit(m.Run())
}

func serve(root string) int {
	st, err := imagestore.Open(root, imagestore.Options{})
	if err != nil {
		return 1
	}
	open := func(ctx context.Context, diffIDs []digest.Digest) (Lower, error) { return st.ViewOf(ctx, diffIDs) }
	if Serve(context.Background(), os.NewFile(3, "control"), ServeOptions{Open: open, Transport: transporttest.Chosen(), Log: slog.New(slog.DiscardHandler)}) != nil {
		return 1
	}
	return 0
}

// lab is a store with one layer, and a server.
type lab struct {
	t     *testing.T
	dir   string
	layer digest.Digest
	m     *Mounter
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l := &lab{t: t, dir: t.TempDir()}
	root := filepath.Join(l.dir, "store")
	st, err := imagestore.Open(root, imagestore.Options{})
	must(t, err)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 3, Typeflag: tar.TypeReg}))
	_, err = w.Write([]byte("low"))
	must(t, errors.Join(err, w.Close()))
	added, err := st.AddLayer(t.Context(), &b, imagestore.LayerOptions{})
	must(t, err)
	l.layer = added.DiffID
	t.Setenv(serverRoot, root)
	l.m, err = Start([]string{"/proc/self/exe"}, nil)
	must(t, err)
	t.Cleanup(func() {
		for _, point := range l.mounts() {
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mounts lists what is mounted in the lab.
func (l *lab) mounts() (list []string) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(l.dir))
	must(l.t, err)
	for _, i := range infos {
		list = append(list, i.Mountpoint)
	}
	return list
}

// options makes the folders of a mount.
func (l *lab) options(name string, writable bool) Options {
	o := Options{Layers: []digest.Digest{l.layer}, Dir: filepath.Join(l.dir, name)}
	must(l.t, os.Mkdir(o.Dir, 0o755))
	if writable {
		o.Upper, o.Work = o.Dir+".upper", o.Dir+".work"
		must(l.t, errors.Join(os.Mkdir(o.Upper, 0o755), os.Mkdir(o.Work, 0o755)))
	}
	return o
}

func TestMounts(t *testing.T) {
	l := newLab(t)
	rw, ro := l.options("rw", true), l.options("ro", false)
	must(t, l.m.Mount(rw))
	must(t, l.m.Mount(ro))
	must(t, os.WriteFile(filepath.Join(rw.Dir, "file"), []byte("new"), 0o644))
	got, err := os.ReadFile(filepath.Join(ro.Dir, "file"))
	if err != nil || string(got) != "low" {
		t.Errorf("the other mount shows %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(ro.Dir, "file"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("a mount without an upper takes writes: %v", err)
	}
	must(t, l.m.Unmount(rw.Dir))
	got, err = os.ReadFile(filepath.Join(rw.Upper, "file"))
	if err != nil || string(got) != "new" {
		t.Errorf("the upper has %q, %v", got, err)
	}
	if err := l.m.Unmount(rw.Dir); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Errorf("unmounted twice: %v", err)
	}
	must(t, l.m.Close())
	if left := l.mounts(); len(left) > 0 {
		t.Errorf("left after Close: %q", left)
	}
	if err := l.m.Mount(rw); !errors.Is(err, ErrEnded) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMountErrors(t *testing.T) {
	l := newLab(t)
	bad := l.options("bad", true)
	bad.Layers = []digest.Digest{digest.FromString("nothing")}
	if err := l.m.Mount(bad); err == nil {
		t.Error("a layer that is not there is mounted")
	}
	gone := l.options("gone", true)
	must(t, os.Remove(gone.Dir))
	if err := l.m.Mount(gone); err == nil {
		t.Error("mounted on a folder that is not there")
	}
	good := l.options("good", true)
	must(t, l.m.Mount(good))
	must(t, l.m.Close())
}

// TestCallerDies: the mounts go with the one who wanted them.
func TestCallerDies(t *testing.T) {
	l := newLab(t)
	must(t, l.m.Mount(l.options("one", true)))
	must(t, l.m.Mount(l.options("two", false)))
	must(t, unix.Shutdown(int(l.m.control.Fd()), unix.SHUT_RDWR)) // as the kernel does at its death
	for end := time.Now().Add(10 * time.Second); len(l.mounts()) > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if left := l.mounts(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	_ = l.m.Close()
}

// TestServerDies: its callers get an error, and do not wait.
func TestServerDies(t *testing.T) {
	l := newLab(t)
	o := l.options("one", true)
	must(t, l.m.Mount(o))
	must(t, l.m.cmd.Process.Kill())
	<-l.m.gone
	if err := l.m.Mount(l.options("two", true)); !errors.Is(err, ErrEnded) {
		t.Errorf("%v", err)
	}
	must(t, unix.Unmount(o.Dir, unix.MNT_DETACH))
	_ = l.m.Close()
}

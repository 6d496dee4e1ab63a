package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// victimEnv makes the test binary add images to the store that it names,
// until it is killed or done.
const victimEnv = "UNIO_TEST_VICTIM"

func TestMain(m *testing.M) {
	if root := os.Getenv(victimEnv); root != "" {
		if err := victim(root, os.Getenv(victimEnv+"_NAME")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim does what a pull does: layers, compressed ones that are kept, then
// the image; and once more with another image under the same name.
func victim(root, name string) error {
	t := &testing.T{}
	s, err := Open(root, Options{})
	if err != nil {
		return err
	}
	for i := range uint64(2) {
		release, err := s.Hold(bg)
		if err != nil {
			return err
		}
		var layers []Layer
		for j := range uint64(3) {
			p := gzipped(t, makeTar(t, files{fmt.Sprint(j): noise(200_000, 10*i+j), "name": name}))
			l, err := s.AddLayer(bg, bytes.NewReader(p), LayerOptions{KeepCompressed: true})
			if err != nil {
				return err
			}
			layers = append(layers, l)
		}
		config := configOf(t, fmt.Sprint(i), layers...)
		var blobs []ocispec.Descriptor
		for _, l := range layers {
			blobs = append(blobs, l.Blob)
		}
		a := NewImage{Config: config, Manifest: manifestOf(t, config, blobs...), Layers: layers, Names: []string{name}}
		if _, err := s.AddImage(bg, a); err != nil {
			return err
		}
		release()
	}
	// Another victim of the same name may have removed it.
	if _, err = s.Remove(bg, name, RemoveOptions{}); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func startVictim(t *testing.T, root, name string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimEnv+"="+root, victimEnv+"_NAME="+name)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	return cmd
}

// TestKill kills a process that adds and removes images, again and again, at
// random moments. The store must open, be whole after its own clean-up, and
// take the same images.
func TestKill(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	keeper := addPulled(t, open(t, root), "keeper", "keeper:1")
	start := time.Now()
	must(t, startVictim(t, root, "victim:1").Wait())
	whole := time.Since(start)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		cmd := startVictim(t, root, "victim:1")
		time.Sleep(time.Duration(rand.Int64N(int64(whole))))
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed, or was done before
		s := open(t, root)
		if lookup(t, s, "keeper:1").ID != keeper.ID {
			t.Fatal("another image changed")
		}
		if rep, err := s.Fsck(bg, FsckOptions{}); err != nil || rep.Damaged() != 0 {
			t.Fatalf("fsck: %+v %v", rep, err)
		}
		_, err := s.Fsck(bg, FsckOptions{Repair: true})
		must(t, err)
		fsckClean(t, s)
	}
	must(t, startVictim(t, root, "victim:1").Wait())
	s := open(t, root)
	_, err := s.Collect(bg)
	must(t, err)
	fsckClean(t, s)
}

// TestProcessesAtOnce lets several processes add and remove images, some of
// them the same, while others look.
func TestProcessesAtOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var cmds []*exec.Cmd
	for i := range 4 {
		cmds = append(cmds, startVictim(t, root, fmt.Sprintf("victim:%d", i/2)))
	}
	s := open(t, root)
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.List(bg); err != nil {
				t.Errorf("list: %v", err)
			}
			rep, err := s.Fsck(ctx, FsckOptions{})
			if err == nil && rep.Damaged() != 0 {
				t.Errorf("fsck: %+v", rep.Problems)
			}
		}
	})
	for i := range 20 {
		name := fmt.Sprintf("here:%d", i)
		addPulled(t, s, name[5:], name)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("victim: %v", err)
		}
	}
	stop()
	for i := range 20 {
		lookup(t, s, fmt.Sprintf("here:%d", i))
	}
	_, err := s.Collect(bg)
	must(t, err)
	fsckClean(t, s)
}

// TestDiskFull adds to a store on a filesystem that is too small: a clear
// error, and afterwards everything as before.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	root := smallDisk(t, 6)
	s := open(t, root)
	addPulled(t, s, "small", "small:1")
	before, err := s.Usage()
	must(t, err)
	for _, n := range []int{8 << 20, 23 << 18, 13 << 18} {
		// As a tar, or with the compressed stream beside it.
		p := makeTar(t, files{"big": noise(n, 5)})
		for _, stream := range [][]byte{p, gzipped(t, p)} {
			_, err := s.AddLayer(bg, bytes.NewReader(stream), LayerOptions{KeepCompressed: true})
			if n > 5<<20 || len(stream) != len(p) {
				if !errors.Is(err, unix.ENOSPC) || strings.Count(err.Error(), "no space left") != 1 {
					t.Errorf("%d bytes: %v", n, err)
				}
			}
		}
		_, err := s.Collect(bg)
		must(t, err)
		after, err := s.Usage()
		must(t, err)
		if after != before {
			t.Errorf("usage %+v, was %+v", after, before)
		}
		fsckClean(t, s)
	}
	// To the last byte: the references must stay readable.
	fill := filepath.Join(root, "fill")
	must(t, os.WriteFile(fill, nil, 0o600))
	fillDisk(t, fill)
	if err := s.Tag(bg, "small:1", "small:2"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("tag on a full disk: %v", err)
	}
	lookup(t, s, "small:1")
	must(t, os.Remove(fill))
	must(t, s.Tag(bg, "small:1", "small:2"))
	fsckClean(t, s)
}

// smallDisk mounts a small ext4 of so many MiB and returns a folder on it.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	image, mnt := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, int64(mib)<<20))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-O", "^has_journal", image}, {"mount", "-o", "loop", image, mnt}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unmount(mnt); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return filepath.Join(mnt, "store")
}

// unmount takes a mount away. A program that another test is just starting
// holds all descriptors of this process until it runs, so it may be busy for a
// moment.
func unmount(dir string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := unix.Unmount(dir, 0); err != unix.EBUSY || time.Now().After(end) {
			return err
		}
	}
}

// needRoot skips what needs to mount.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small filesystem")
	}
}

func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

func TestLocks(t *testing.T) {
	root := t.TempDir()
	a, b := open(t, root), open(t, root)
	releaseA, err := a.Hold(bg)
	must(t, err)
	releaseB, err := b.Hold(bg) // holds do not exclude each other
	must(t, err)
	short, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	if _, err := b.Collect(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("collection beside a hold: %v", err)
	}
	releaseA()
	releaseB()
	_, err = b.Collect(bg)
	must(t, err)
	release, err := a.exclusive(bg)
	must(t, err)
	short, cancel = context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	if _, err := b.AddLayer(short, bytes.NewReader(nil), LayerOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("adding beside a collection: %v", err)
	}
	release()
}

// slowFile is the content of a file whose writing takes until go on is closed.
type slowFile struct{ begun, goOn chan struct{} }

func (f slowFile) WriteTo(w io.Writer) (int64, error) {
	close(f.begun)
	<-f.goOn
	n, err := io.WriteString(w, "content")
	return int64(n), err
}

// TestWriteDuringCollection: who only changes references does not hold the
// store; a collection meanwhile does not take the file that is being written.
func TestWriteDuringCollection(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	f := slowFile{begun: make(chan struct{}), goOn: make(chan struct{})}
	path := filepath.Join(s.stateDir(), "slow")
	written, collected := make(chan error, 1), make(chan error, 1)
	go func() { written <- s.writeFrom(path, f) }()
	<-f.begun
	go func() {
		_, err := s.Collect(bg)
		collected <- err
	}()
	select {
	case err := <-collected:
		t.Errorf("the collection did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(f.goOn)
	must(t, <-written)
	if p, err := os.ReadFile(path); err != nil || string(p) != "content" {
		t.Errorf("%q, %v", p, err)
	}
	select {
	case err := <-collected:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Error("the collection does not end")
	}
}

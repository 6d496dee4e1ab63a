package integration

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// archiveBudget is what load and save may have in memory at any time, bytes,
// however large the archive.
const archiveBudget = 64 << 20

// bulk is an endless stream of lines, no two of which are alike.
type bulk struct {
	name string
	n    int
	rest []byte
}

func (b *bulk) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		b.n++
		b.rest = fmt.Appendf(b.rest[:0], "%s %d %s\n", b.name, b.n, strings.Repeat(b.name+"0123456789abcdef", 200))
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// largeLayer writes the tar of a layer with one file of n bytes.
func largeLayer(w io.Writer, name string, n int64) error {
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: n}); err != nil {
		return err
	}
	if _, err := io.CopyN(out, &bulk{name: name}, n); err != nil {
		return err
	}
	return out.Close()
}

// packer opens a compression over a writer.
type packer func(w io.Writer) (io.WriteCloser, error)

// packers are the forms that layers have in archives. Windows of 8 MiB are what
// most writers of zstd use.
func packers() map[string]packer {
	return map[string]packer{
		"plain": func(w io.Writer) (io.WriteCloser, error) { return plainWriter{w}, nil },
		"gzip":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(8<<20))
		},
	}
}

// largeLayers writes layers beside each other.
func largeLayers(dir string, count int, each int64, packed packer) (files, diffIDs []string, err error) {
	for i := range count {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("layer%d.tar", i)))
		if err != nil {
			return nil, nil, err
		}
		sum, buf := sha256.New(), bufio.NewWriterSize(f, 1<<20)
		content, err := packed(buf)
		if err != nil {
			return nil, nil, err
		}
		for _, step := range []func() error{
			func() error { return largeLayer(io.MultiWriter(content, sum), fmt.Sprint("big", i), each) },
			content.Close, buf.Flush, f.Close,
		} {
			if err := step(); err != nil {
				return nil, nil, err
			}
		}
		files = append(files, filepath.Base(f.Name()))
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sum.Sum(nil)))
	}
	return files, diffIDs, nil
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// largeArchive makes a docker archive of layers of the size given.
func largeArchive(t *testing.T, path string, count int, each int64, packed packer) {
	t.Helper()
	dir := t.TempDir()
	files, diffIDs, err := largeLayers(dir, count, each, packed)
	must(t, err)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	must(t, err)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"big:1"}, "Layers": files}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600))
	tool(t, "tar", append([]string{"-C", dir, "-cf", path, "config.json"}, append(files, "manifest.json")...)...)
}

// peak runs a command and returns the most that it had in memory, pages of
// files included, as the kernel has noted it (VmHWM in proc_pid_status(5)).
func peak(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	var problems strings.Builder
	cmd.Stderr = &problems
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var most int64
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%v: %v\n%s", cmd.Args, err, problems.String())
			}
			return most
		case <-time.After(5 * time.Millisecond):
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // it may have ended
			if _, rest, ok := strings.Cut(string(text), "VmHWM:"); ok {
				n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				most = max(most, n<<10)
			}
		}
	}
}

// TestArchiveMemory loads and saves an image that is much larger than what
// either may have in memory, from and into files and pipes: 4 GiB in make
// test-long.
func TestArchiveMemory(t *testing.T) {
	each := int64(24 << 20)
	if long() {
		each = 1 << 30
	}
	b := newBox(t)
	for form, packed := range packers() {
		archive := b.path("big.tar")
		largeArchive(t, archive, 4, each, packed)
		load, piped := b.command("load", "-q", "-i", archive), b.command("load", "-q")
		stream, err := os.Open(archive)
		must(t, err)
		in, err := piped.StdinPipe()
		must(t, err)
		go func() {
			_, _ = io.Copy(in, stream)
			_ = in.Close()
		}()
		file, out := b.command("save", "-q", "-o", b.path("out.tar"), "big:1"), b.command("save", "-q", "big:1")
		sum := sha256.New()
		out.Stdout = sum
		for _, c := range []struct {
			what string
			cmd  *exec.Cmd
		}{{"load of a file", load}, {"load of a pipe", piped}, {"save to a file", file}, {"save to a pipe", out}} {
			if strings.HasPrefix(c.what, "load") {
				must(t, os.RemoveAll(b.store()))
			}
			n := peak(t, c.cmd)
			t.Logf("%s, %s: %d MiB", c.what, form, n>>20)
			if n > archiveBudget {
				t.Errorf("%s, %s: %d bytes in memory", c.what, form, n)
			}
		}
		must(t, stream.Close())
		text := tool(t, "sha256sum", b.path("out.tar"))
		if text != fmt.Sprintf("%x  %s", sum.Sum(nil), b.path("out.tar")) {
			t.Errorf("the save to a pipe differs from the one to a file")
		}
		must(t, os.Remove(b.path("out.tar")))
	}
}

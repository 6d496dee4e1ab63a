package runner

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/runspec"
	"unio/imagestore"
)

// TestMain lets the tests run this binary as the child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "runner" {
		os.Exit(ExitCode(Main(os.NewFile(3, "control"))))
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		time.Sleep(20 * time.Millisecond)
		os.Exit(3) // run by a container: see TestOwnProgram
	}
	os.Exit(m.Run())
}

// testID is what the containers of the tests have as the start of their ID.
const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"

// busyboxRoot makes a root folder, a filesystem of its own, with a shell and
// the usual commands.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	for _, d := range []string{"bin", "dev", "proc", "sys", "etc", "tmp", "root"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	from, err := exec.LookPath("busybox")
	must(t, err)
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755))
	for _, name := range strings.Fields("sh ls cat id kill sleep mkdir readlink stat tty test hostname mount umount mknod ps ping head wc env ip dd true rm ln nohup grep touch find pwd chown su") {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	write(t, dir, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n")
	write(t, dir, "etc/group", "root:x:0:\nann:x:1000:\nwheel:x:10:ann\naudio:x:29:root,ann\n")
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

// imageConfig is the config of an image that says little.
func imageConfig() imagestore.RunConfig {
	return imagestore.RunConfig{DockerOCIImageConfig: dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{Env: []string{"PATH=/bin", "FROM=image"}},
	}}
}

// describe makes the spec of a container that runs a shell script.
func describe(t *testing.T, o runspec.Options, script string) *specs.Spec {
	t.Helper()
	if o.Args == nil {
		o.Args = []string{"sh", "-c", script}
	}
	spec, err := runspec.New(imageConfig(), o)
	must(t, err)
	return spec
}

// result is what a program said.
type result struct {
	code        int
	err         error
	out, stderr string
}

// start starts a container, whose output collects.
func start(t *testing.T, o Options) (p *Process, finish func() result, err error) {
	t.Helper()
	outR, outW, err := os.Pipe()
	must(t, err)
	errR, errW, err := os.Pipe()
	must(t, err)
	o.Stdout, o.Stderr = outW, errW
	if o.Command == nil {
		o.Command = []string{"/proc/self/exe", "runner"}
	}
	p, err = Start(t.Context(), o)
	outW.Close()
	errW.Close()
	out, errText := collect(outR), collect(errR)
	if p != nil {
		t.Cleanup(func() { _ = p.Kill() })
	}
	return p, func() result {
		var r result
		r.code, r.err = p.Wait()
		r.out, r.stderr = <-out, <-errText
		return r
	}, err
}

// run runs a container to its end.
func run(t *testing.T, o Options) result {
	t.Helper()
	_, finish, err := start(t, o)
	var failed *StartError
	if errors.As(err, &failed) {
		return result{code: failed.Code, err: err}
	}
	must(t, err)
	return finish()
}

func collect(r *os.File) <-chan string {
	c := make(chan string, 1)
	go func() {
		defer r.Close()
		data, _ := io.ReadAll(r)
		c <- string(data)
	}()
	return c
}

// sh runs a shell script in a container and returns what it printed.
func sh(t *testing.T, o runspec.Options, script string) string {
	t.Helper()
	r := run(t, Options{ID: o.ID, Spec: describe(t, o, script)})
	if r.code != 0 || r.err != nil {
		t.Fatalf("%s: code %d, err %v, stderr %q", script, r.code, r.err, r.stderr)
	}
	return strings.TrimSpace(r.out)
}

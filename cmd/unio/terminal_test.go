package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"unio/cmd/unio/terminal/terminaltest"
	"unio/imagestore/registry/registrytest"
)

// onTerminal is unio on a terminal of the tests.
type onTerminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	screen *terminaltest.Screen
	raw    bytes.Buffer  // read after done
	done   chan struct{} // all output is on the screen
}

// startUnio runs unio on a terminal of a size, with a store in dir.
func startUnio(t *testing.T, dir string, size pty.Winsize, args ...string) *onTerminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := &onTerminal{t: t, screen: terminaltest.New(t, int(size.Cols), int(size.Rows)), done: make(chan struct{})}
	o.cmd = &exec.Cmd{Path: self, Args: append([]string{"unio"}, args...), Env: unioEnv(dir)}
	if o.master, err = pty.StartWithSize(o.cmd, &size); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(o.done)
		_, _ = io.Copy(io.MultiWriter(o.screen, &o.raw), o.master) // ends by EIO with the program
	}()
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		o.master.Close()
	})
	return o
}

func unioEnv(dir string) []string {
	return append(os.Environ(), "UNIO_ROOT="+dir+"/store", "UNIO_RUNROOT="+dir+"/run", "HOME="+dir, "TERM=xterm", "NO_COLOR=")
}

// runUnio runs unio without a terminal.
func runUnio(t *testing.T, dir string, args ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{"unio"}, args...), Env: unioEnv(dir)}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unio %v: %v\n%s", args, err, out)
	}
}

func (o *onTerminal) waitFor(want string) {
	o.t.Helper()
	o.waitMatch(regexp.QuoteMeta(want))
}

// waitMatch waits until the screen shows what matches.
func (o *onTerminal) waitMatch(pattern string) {
	o.t.Helper()
	expr := regexp.MustCompile(pattern)
	for range 2400 {
		if expr.MatchString(o.screen.Text()) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	o.t.Fatalf("no %q on the screen:\n%s", pattern, o.screen.Text())
}

func (o *onTerminal) resize(cols, rows uint16) {
	o.screen.Resize(int(cols), int(rows))
	if err := pty.Setsize(o.master, &pty.Winsize{Cols: cols, Rows: rows}); err != nil {
		o.t.Fatal(err)
	}
}

// end waits for the program and returns its exit code and the screen.
func (o *onTerminal) end() (int, string) {
	o.t.Helper()
	select {
	case <-o.done:
	case <-time.After(60 * time.Second):
		o.t.Fatalf("it does not end:\n%s", o.screen.Text())
	}
	_ = o.cmd.Wait()
	return o.cmd.ProcessState.ExitCode(), o.screen.Text()
}

const blobSize = 600 << 10

// noisyImage is a docker archive of an image with three layers that do not
// compress.
func noisyImage(t *testing.T, name string) string {
	t.Helper()
	files := map[string][]byte{}
	var layers, diffIDs []string
	for i := range 3 {
		data := make([]byte, blobSize)
		noise := rand.NewChaCha8([32]byte{byte(i)})
		_, _ = noise.Read(data)
		layer := tarOf(t, map[string][]byte{fmt.Sprint("file", i): data})
		layers = append(layers, fmt.Sprint(i, ".tar"))
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(layer)))
		files[layers[i]] = layer
	}
	marshal := func(v any) []byte {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	files["config.json"] = marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	files["manifest.json"] = marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": layers}})
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, tarOf(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// halfway passes a registry on, but no more than half of each blob until all
// is called.
func halfway(t *testing.T, addr string) (proxy string, all func()) {
	t.Helper()
	gate := make(chan struct{})
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	p.FlushInterval = -1
	p.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/blobs/") {
			r.Body = &halfBody{ReadCloser: r.Body, left: blobSize / 2, gate: gate, gone: r.Request.Context().Done()}
		}
		return nil
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), sync.OnceFunc(func() { close(gate) })
}

// halfBody gives left bytes, and the rest when the gate opens.
type halfBody struct {
	io.ReadCloser
	left       int
	gate, gone <-chan struct{}
}

func (b *halfBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		select {
		case <-b.gate:
			return b.ReadCloser.Read(p)
		case <-b.gone:
			return 0, io.ErrUnexpectedEOF
		}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestPullOnTerminal pulls with bars, while the terminal changes its size, ends
// it by Ctrl-C, and pulls again.
func TestPullOnTerminal(t *testing.T) {
	t.Parallel()
	fast := registrytest.Start(t)
	dir, other := t.TempDir(), t.TempDir()
	runUnio(t, other, "load", "-q", "-i", noisyImage(t, fast+"/noise:1"))
	runUnio(t, other, "push", "-q", fast+"/noise:1")
	proxy, all := halfway(t, fast)
	defer all()
	name := proxy + "/noise:1"

	// TestBarsResized looks at what changes of the size leave, without a race.
	o := startUnio(t, dir, pty.Winsize{Cols: 90, Rows: 24}, "pull", name)
	o.waitFor(": Downloading")
	o.resize(41, 24)
	o.resize(120, 12)
	if _, err := o.master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	code, text := o.end()
	if lines := strings.Split(text, "\n"); code != exitInterrupted || strings.Contains(text, "^C") || strings.Contains(lines[len(lines)-1], "Total") {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, text)
	}
	if column, line := o.screen.Cursor(); column != 0 || line != "" {
		t.Errorf("the cursor is left at column %d of %q", column, line)
	}

	all()
	o = startUnio(t, dir, pty.Winsize{Cols: 100, Rows: 24}, "pull", name)
	code, text = o.end()
	pulled := regexp.MustCompile(`\A1: Pulling from noise\n(?:[0-9a-f]{12}: Pull complete\n){3}` +
		`Digest: sha256:[0-9a-f]{64}\nStatus: Downloaded newer image for \S+\n` + regexp.QuoteMeta(name) + `\z`)
	if code != 0 || !pulled.MatchString(text) {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// TestTransfersOnTerminal looks at what stays on the screen of load, save,
// import and push.
func TestTransfersOnTerminal(t *testing.T) {
	t.Parallel()
	dir, size := t.TempDir(), pty.Winsize{Cols: 100, Rows: 24}
	registry := registrytest.Start(t)
	image, bars := noisyImage(t, registry+"/noise:1"), `(?:[0-9a-f]{12}: %s layer \[=+>\]  615.*kB/615.*kB\n){3}`
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"load", "-i", image}, fmt.Sprintf(bars, "Loading") + `Loaded image: \S+/noise:1`},
		{[]string{"save", "-o", dir + "/out.tar", registry + "/noise:1"}, strings.TrimSuffix(fmt.Sprintf(bars, "Saving"), `\n){3}`) + `\n?){3}`},
		{[]string{"load", "-q", "-i", image}, `Loaded image: \S+/noise:1`},
		{[]string{"import", image, "tree:1"}, `import: Importing \[=+>\]  1.*MB/1.*MB\nsha256:[0-9a-f]{64}`},
		{
			[]string{"push", registry + "/noise:1"},
			`The push refers to repository \[\S+/noise\]\n(?:[0-9a-f]{12}: Pushed\n){3}1: digest: sha256:[0-9a-f]{64} size: \d+`,
		},
	} {
		code, text := startUnio(t, dir, size, c.args...).end()
		if code != 0 || !regexp.MustCompile(`\A`+c.want+`\z`).MatchString(text) {
			t.Errorf("unio %v: exit code %d:\n%s", c.args, code, text)
		}
	}
}

// TestTablesAndColorsOnTerminal looks at what a terminal shows otherwise than a
// file.
func TestTablesAndColorsOnTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	runUnio(t, dir, "load", "-q", "-i", noisyImage(t, "registry.example.com/some/team/with/a/program:1.2.3"))
	_, text := startUnio(t, dir, pty.Winsize{Cols: 80, Rows: 24}, "images").end()
	if !strings.Contains(text, "… ") || strings.Count(text, "\n") != 1 {
		t.Errorf("a table on 80 columns:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if len([]rune(line)) > 81 {
			t.Errorf("too wide: %s", line)
		}
	}
	if _, text = startUnio(t, dir, pty.Winsize{Cols: 80, Rows: 24}, "images", "--no-trunc").end(); strings.Contains(text, "…") {
		t.Errorf("--no-trunc was cut:\n%s", text)
	}
	o := startUnio(t, dir, pty.Winsize{Cols: 80, Rows: 24}, "inspect", "nothing")
	if code, _ := o.end(); code != 1 || !strings.Contains(o.raw.String(), "\x1b[31mError:\x1b[0m No such object: nothing") {
		t.Errorf("exit code %d, %q", code, &o.raw)
	}
}

// TestPrompts answers what login and prune ask, and interrupts them: the
// terminal then shows again what is typed, and the cursor is at the left.
func TestPrompts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	login := []string{"login", "127.0.0.1:1"}
	withName := []string{"login", "-u", "someone", "127.0.0.1:1"}
	refused := "Error: Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
	for _, c := range []struct {
		args  []string
		waits []string // for each a line is typed
		keys  []string
		code  int
		end   string
	}{
		{login, []string{"Username: "}, []string{"\n"}, 1, "Error: Non-null Username Required"},
		{login, []string{"Username: ", "Password: "}, []string{"someone\n", "\n"}, 1, "Error: Password Required"},
		{login, []string{"Username: ", "Password: "}, []string{"someone\n", "secret\n"}, 1, refused},
		{login, []string{"Username: "}, []string{"\x03"}, exitInterrupted, "Username: ^C"},
		{withName, []string{"Password: "}, []string{"\x03"}, exitInterrupted, "Password: "},
		{[]string{"image", "prune"}, []string{"[y/N] "}, []string{"\x03"}, exitInterrupted, "[y/N] ^C"},
		{[]string{"image", "prune"}, []string{"[y/N] "}, []string{"y\n"}, 0, "Total reclaimed space: 0B"},
	} {
		o := startUnio(t, dir, pty.Winsize{Cols: 100, Rows: 24}, c.args...)
		for i, wait := range c.waits {
			o.waitFor(strings.TrimRight(wait, " "))
			if _, err := o.master.WriteString(c.keys[i]); err != nil {
				t.Fatal(err)
			}
		}
		code, text := o.end()
		if code != c.code || !strings.HasSuffix(strings.TrimRight(text, " "), strings.TrimRight(c.end, " ")) || strings.Contains(text, "secret") {
			t.Errorf("%v, keys %q: exit code %d, want %d and %q at the end:\n%s", c.args, c.keys, code, c.code, c.end, text)
		}
		if column, _ := o.screen.Cursor(); column != 0 {
			t.Errorf("%v, keys %q: the cursor is left at column %d", c.args, c.keys, column)
		}
		termios, err := unix.IoctlGetTermios(int(o.master.Fd()), unix.TCGETS)
		if err != nil || termios.Lflag&unix.ECHO == 0 {
			t.Errorf("%v, keys %q: the terminal is left without echo (%v)", c.args, c.keys, err)
		}
	}
}

package supervise

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"unio/container"
	"unio/container/jsonlog"
)

// testContainer is one of the test's folder.
func testContainer(t *testing.T) *container.Container {
	t.Helper()
	t.Chdir(t.TempDir())
	return &container.Container{Record: container.Record{ID: "test"}}
}

// begin makes the streams of a container, starts a shell on them, and hands its
// output on.
func begin(t *testing.T, c *container.Container, h *hub, script string) (*streams, *exec.Cmd) {
	t.Helper()
	s, err := openStreams(c, h, &Size{Rows: 11, Cols: 22})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	cmd := exec.Command("sh", "-c", script)
	if s.tty {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.console, s.console, s.console
	} else {
		cmd.Stdout, cmd.Stderr = s.stdout, s.stderr
		if s.stdin != nil {
			cmd.Stdin = s.stdin
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.closeTheirs()
	s.flow()
	return s, cmd
}

// logged is what the log of a container holds, oldest first.
func logged(t *testing.T, c *container.Container) string {
	t.Helper()
	var b strings.Builder
	err := jsonlog.Read(t.Context(), c.OutputPath(), jsonlog.ReadOptions{Tail: -1}, func(e jsonlog.Entry) error {
		b.WriteString(e.Stream[3:4] + ":" + e.Log)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestOutput: what a program prints is in the log and with those attached,
// before its end is.
func TestOutput(t *testing.T) {
	c, h := testContainer(t), newHub()
	out, ended := printer(t, h, Attach{Stdout: true, Stderr: true})
	s, cmd := begin(t, c, h, "echo one; echo two >&2; printf three")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	h.exit(Exit{})
	<-ended
	// The two streams come in any order, each in its own.
	if got := strings.Replace(out.String(), "two\n", "", 1); got != "one\nthree" {
		t.Errorf("attached: %q", out)
	}
	if got := strings.Replace(logged(t, c), "e:two\n", "", 1); got != "o:one\no:three" {
		t.Errorf("logged: %q", got)
	}
}

// TestLogRotates: a log has the files that its options allow.
func TestLogRotates(t *testing.T) {
	c := testContainer(t)
	c.Host.LogConfig = container.LogConfig{Config: map[string]string{"max-size": "1k", "max-file": "2"}}
	s, cmd := begin(t, c, newHub(), "for i in 1 2 3 4 5 6 7 8 9; do printf '%0200d\n' $i; done")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	files, err := filepath.Glob("*")
	if err != nil || len(files) != 2 {
		t.Errorf("files %q, %v", files, err)
	}
	for _, name := range files {
		if st, err := os.Stat(name); err != nil || st.Size() > 1000 || st.Size() == 0 {
			t.Errorf("%s: %d bytes, %v", name, st.Size(), err)
		}
	}
	if got := logged(t, c); !strings.HasSuffix(got, "9\n") {
		t.Errorf("the end of the log: %q", got)
	}
}

func TestNoLog(t *testing.T) {
	c := testContainer(t)
	c.Host.LogConfig.Type = "none"
	s, cmd := begin(t, c, newHub(), "echo text")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	if files, _ := filepath.Glob("*"); len(files) != 0 {
		t.Errorf("files %q", files)
	}
	c.Host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "much"}}
	if _, err := openStreams(c, newHub(), nil); err == nil || !strings.Contains(err.Error(), "logging driver") {
		t.Errorf("a size that is none: %v", err)
	}
}

// clientOf serves a client as the supervisor does, and returns its end.
func clientOf(t *testing.T, s *streams, h *hub, a Attach) (*Session, <-chan struct{}) {
	t.Helper()
	client, server := pair(t)
	h.add(server, a)
	super := &supervisor{hub: h, streams: s, log: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	go func() { super.hear(server, a); close(done) }()
	return &Session{framed: client}, done
}

// TestInput: bytes and their end come to the program, from those only who have
// asked for its input.
func TestInput(t *testing.T) {
	c, h := testContainer(t), newHub()
	c.Config.OpenStdin, c.Config.StdinOnce = true, true
	s, cmd := begin(t, c, h, "cat")
	other, _ := clientOf(t, s, h, Attach{})
	if _, err := other.Write([]byte("not this")); err != nil {
		t.Fatal(err)
	}
	other.Close()
	client, _ := clientOf(t, s, h, Attach{Stdin: true})
	want := bytes.Repeat([]byte("0123456789\n"), 9000) // several frames, more than a pipe holds
	if n, err := client.Write(want); n != len(want) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := client.CloseInput(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	if got := strings.ReplaceAll(logged(t, c), "o:", ""); got != string(want) {
		t.Errorf("%d bytes came, want %d", len(got), len(want))
	}
}

// TestDetach: who leaves on purpose does not end the program's input, who is
// cut off does.
func TestDetach(t *testing.T) {
	c, h := testContainer(t), newHub()
	c.Config.OpenStdin, c.Config.StdinOnce = true, true
	s, cmd := begin(t, c, h, "cat")
	first, heard := clientOf(t, s, h, Attach{Stdin: true})
	if err := first.Detach(); err != nil {
		t.Fatal(err)
	}
	<-heard
	second, _ := clientOf(t, s, h, Attach{Stdin: true})
	if _, err := second.Write([]byte("after\n")); err != nil {
		t.Fatal(err)
	}
	second.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	if got := logged(t, c); got != "o:after\n" {
		t.Errorf("the program got %q", got)
	}
}

// TestInputStays: without StdinOnce the input outlives its clients.
func TestInputStays(t *testing.T) {
	c, h := testContainer(t), newHub()
	c.Config.OpenStdin = true
	s, _ := begin(t, c, h, "cat")
	client, heard := clientOf(t, s, h, Attach{Stdin: true})
	client.Close()
	<-heard
	s.inMu.Lock()
	open := s.in != nil
	s.inMu.Unlock()
	if !open {
		t.Error("the input has ended")
	}
}

// TestTerminal: the program's terminal has the size of the client's, at the start and
// later.
func TestTerminal(t *testing.T) {
	c, h := testContainer(t), newHub()
	c.Config.Tty = true
	s, cmd := begin(t, c, h, "stty size; read x; stty size")
	client, _ := clientOf(t, s, h, Attach{Stdin: true})
	for end := time.Now().Add(10 * time.Second); !strings.Contains(logged(t, c), "11 22"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("at the start: %q", logged(t, c))
		}
	}
	if err := client.Resize(Size{Rows: 33, Cols: 44}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	if got := logged(t, c); !strings.Contains(got, "33 44") {
		t.Errorf("later: %q", got)
	}
}

// TestResizeNonsense: what is no size changes none.
func TestResizeNonsense(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	s := &streams{tty: true, in: master}
	s.resize(&Size{Rows: 5, Cols: 6})
	for _, text := range []string{"", "text", `{"Rows":-1}`, `{"Rows":70000}`, "[1,2]"} {
		s.resizeTo([]byte(text))
	}
	if rows, cols, err := pty.Getsize(slave); rows != 5 || cols != 6 || err != nil {
		t.Errorf("%d × %d, %v", rows, cols, err)
	}
	s.resize(nil)
}

// TestDrainLeavesOthers: what else has the program's output keeps a container
// from ending for a while only.
func TestDrainLeavesOthers(t *testing.T) {
	c := testContainer(t)
	s, cmd := begin(t, c, newHub(), "echo text; sleep 20 & echo $!")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.drain()
	if took := time.Since(began); took < drainWait {
		t.Errorf("drained after %v, although the output is open", took)
	}
	text := strings.ReplaceAll(logged(t, c), "o:", "")
	if !strings.HasPrefix(text, "text\n") {
		t.Errorf("logged %q", text)
	}
	var left int
	if err := json.Unmarshal([]byte(strings.TrimSpace(strings.TrimPrefix(text, "text\n"))), &left); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(left)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Error(err)
	}
}

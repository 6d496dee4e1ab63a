package supervise

import (
	"strings"
	"testing"
	"time"
)

// printer is a client that takes what the hub sends, in the background.
func printer(t *testing.T, h *hub, a Attach) (out *strings.Builder, ended <-chan *Exit) {
	t.Helper()
	client, server := pair(t)
	h.add(server, a)
	done := make(chan *Exit, 1)
	out = &strings.Builder{}
	go func() {
		e, _ := (&Session{framed: client}).Copy(out, out)
		done <- e
	}()
	return out, done
}

// TestHub: everybody gets what he has asked for, and the end.
func TestHub(t *testing.T) {
	h := newHub()
	both, end1 := printer(t, h, Attach{Stdout: true, Stderr: true})
	errs, end2 := printer(t, h, Attach{Stderr: true})
	none, end3 := printer(t, h, Attach{})
	gone, server := pair(t)
	h.add(server, Attach{Stdout: true})
	gone.conn.Close()
	h.print(kindStdout, []byte("out "))
	h.print(kindStderr, []byte("err"))
	h.print(kindStdout, []byte(" end")) // one who is gone is left out at the latest now
	if n := len(h.list(func(Attach) bool { return true })); n != 3 {
		t.Errorf("%d clients, want 3", n)
	}
	h.exit(Exit{Code: 5})
	for _, end := range []<-chan *Exit{end1, end2, end3} {
		if e := <-end; e == nil || e.Code != 5 {
			t.Errorf("the end: %+v", e)
		}
	}
	if both.String() != "out err end" || errs.String() != "err" || none.String() != "" {
		t.Errorf("printed %q, %q and %q", both, errs, none)
	}
	if n := len(h.list(func(Attach) bool { return true })); n != 0 {
		t.Errorf("%d clients after the end", n)
	}
}

// TestHurry: who does not read holds up what is sent to all no longer than he
// is given.
func TestHurry(t *testing.T) {
	h := newHub()
	_, server := pair(t) // nobody reads the other end
	h.add(server, Attach{Stdout: true})
	sent := make(chan struct{})
	go func() {
		for range 64 { // more than a socket holds
			h.print(kindStdout, make([]byte, 32<<10))
		}
		close(sent)
	}()
	select {
	case <-sent:
		t.Fatal("a socket that nobody reads took 2 MiB")
	case <-time.After(20 * time.Millisecond):
	}
	h.hurry(0)
	select {
	case <-sent:
	case <-time.After(10 * time.Second):
		t.Fatal("it is still held up")
	}
	if n := len(h.list(func(Attach) bool { return true })); n != 0 {
		t.Errorf("%d clients", n)
	}
	h.remove(server) // once more does no harm
}

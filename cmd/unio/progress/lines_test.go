package progress

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"unio/imagestore"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := New(&out, Auto)
	for _, e := range []imagestore.Event{
		{ID: "latest", Action: "Pulling from library/x"},
		{ID: "0123", Action: "Pulling fs layer", Total: 100},
		{ID: "0123", Action: "Downloading", Current: 10, Total: 100},
		{ID: "0123", Action: "Downloading", Current: 100, Total: 100},
		{ID: "0123", Action: "Download complete"},
		{ID: "4567", Action: "Loading layer", Current: 1, Total: 2},
		{ID: "4567", Action: "Loading layer", Current: 2, Total: 2},
		{Action: "Status: done"},
		{ID: "0123", Action: "Download complete"},
	} {
		p.Update(e)
	}
	p.Done()
	want := "latest: Pulling from library/x\n0123: Pulling fs layer\n0123: Download complete\n" +
		"4567: Loading layer\nStatus: done\n0123: Download complete\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	p := newJSON(&out)
	now := time.Unix(1700000000, 0)
	p.now = func() time.Time { return now }
	p.Update(imagestore.Event{ID: "latest", Action: "Pulling from library/x"})
	p.Update(downloading("0123", 10, 100))
	p.Update(downloading("0123", 20, 100)) // too soon
	now = now.Add(time.Second)
	p.Update(downloading("0123", 30, 100))
	p.Update(downloading("0123", 100, 100)) // the last is always told
	p.Update(imagestore.Event{ID: "0123", Action: "Pull complete"})
	p.Update(imagestore.Event{ID: "0123", Action: "Pull complete"})
	p.Update(imagestore.Event{Action: "Status: <done>"})
	p.Done()
	want := `{"status":"Pulling from library/x","id":"latest","progressDetail":{}}
{"status":"Downloading","id":"0123","progressDetail":{"current":10,"total":100}}
{"status":"Downloading","id":"0123","progressDetail":{"current":30,"total":100}}
{"status":"Downloading","id":"0123","progressDetail":{"current":100,"total":100}}
{"status":"Pull complete","id":"0123","progressDetail":{}}
{"status":"Status: <done>"}
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestModes(t *testing.T) {
	for _, s := range append(Modes(), "") {
		if _, err := Parse(s); err != nil {
			t.Error(err)
		}
	}
	_, err := Parse("loud")
	if err == nil || err.Error() != `invalid progress mode "loud": want auto, plain, tty, json or quiet` {
		t.Errorf("%v", err)
	}
	var out bytes.Buffer
	p := New(&out, Quiet)
	p.Update(imagestore.Event{ID: "a", Action: "b"})
	p.Done()
	if out.Len() > 0 {
		t.Errorf("quiet progress wrote %q", &out)
	}
	p = New(&out, TTY)
	p.Update(downloading("a", 1, 2))
	p.Done()
	if !strings.Contains(out.String(), "[====") {
		t.Errorf("bars that were asked for: %q", &out)
	}
}

// Auto are bars on a terminal alone.
func TestAuto(t *testing.T) {
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer tty.Close()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	isBars := func(f *os.File) bool {
		p := New(f, Auto)
		defer p.Done()
		_, ok := p.(*bars)
		return ok
	}
	t.Setenv("TERM", "xterm")
	if !isBars(tty) || isBars(file) {
		t.Error("bars should be on the terminal, and there only")
	}
	t.Setenv("TERM", "dumb")
	if isBars(tty) {
		t.Error("bars on a terminal whose cursor does not move")
	}
}

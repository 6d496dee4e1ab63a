package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// figures are what the tests need of `unio mount --stats`.
type figures struct {
	Total        int64 `json:"total"`
	BytesRead    int64 `json:"bytesRead"`
	BytesWritten int64 `json:"bytesWritten"`
	Ops          map[string]struct {
		Requests, Errors, Answered int64
		Seconds                    float64
		Buckets                    []int64
	} `json:"ops"`
	Upper struct {
		CopyUps     struct{ Metadata, Partial, Whole int64 }
		CopiedBytes int64
		Whiteouts   int64
		Redirects   int64
		Nodes       int64
	} `json:"upper"`
	Process struct {
		Pid, Resident, Goroutines, Descriptors int64
		Uptime                                 float64
		Restarts                               int64
		Transport                              string
	} `json:"process"`
}

func (b *box) figures(mnt string) figures {
	b.t.Helper()
	var f figures
	if err := json.Unmarshal([]byte(b.run("mount", "--stats", "--format", "json", mnt)), &f); err != nil {
		b.t.Fatal(err)
	}
	return f
}

// TestStats does known things on a mount and finds them in the figures;
// asking is no request.
func TestStats(t *testing.T) {
	b := newBox(t)
	b.run("import", "-q", busyboxRoot(t, b.dir), "busybox:stats")
	mnt := b.mount("--name", "stats", "busybox:stats")
	before := b.figures(mnt)
	if again := b.figures(mnt); again.Total != before.Total {
		t.Errorf("asking cost %d requests", again.Total-before.Total)
	}
	must(t, os.Chmod(filepath.Join(mnt, "usr/share/data"), 0o600))
	must(t, os.WriteFile(filepath.Join(mnt, "etc/passwd"), make([]byte, 5000), 0o644)) // truncated: nothing to copy
	must(t, os.Remove(filepath.Join(mnt, "etc/group")))
	must(t, os.Rename(filepath.Join(mnt, "usr/share/doc"), filepath.Join(mnt, "usr/share/moved")))
	file, err := os.OpenFile(filepath.Join(mnt, "usr/share/moved/a/7"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = file.WriteString("more")
	must(t, err)
	must(t, file.Close())
	must(t, readAll(filepath.Join(mnt, "usr/share/moved/a/8")))
	must(t, readAll(filepath.Join(mnt, "usr/share/sparse")))

	f := b.figures(mnt)
	u := f.Upper
	if u.CopyUps.Whole < 1 || u.CopyUps.Metadata < 4 || u.CopiedBytes != int64(len("text 7\n")) {
		t.Errorf("copy-ups: %+v, %d bytes", u.CopyUps, u.CopiedBytes)
	}
	if u.Whiteouts != 2 || u.Redirects != 1 { // of group and of doc
		t.Errorf("%d whiteouts, %d redirects", u.Whiteouts, u.Redirects)
	}
	if u.Nodes < 7 || u.Nodes > 12 {
		t.Errorf("%d nodes", u.Nodes)
	}
	if f.BytesWritten != 5004 || f.BytesRead < 4<<20 || f.BytesRead > 5<<20 {
		t.Errorf("bytes read %d, written %d", f.BytesRead, f.BytesWritten)
	}
	for op, n := range f.Ops {
		sum := int64(0)
		for _, b := range n.Buckets {
			sum += b
		}
		if n.Answered > n.Requests || sum != n.Answered || n.Answered > 0 && n.Seconds <= 0 {
			t.Errorf("%s: %+v", op, n)
		}
	}
	p := f.Process
	if p.Resident < 1<<20 || p.Goroutines < 1 || p.Descriptors < 3 || p.Uptime <= 0 || p.Pid <= 1 {
		t.Errorf("process: %+v", p)
	}
}

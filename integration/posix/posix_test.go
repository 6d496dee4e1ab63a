package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unio/unionfs/transport/transporttest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// TestScenarios runs all scenarios on ext4, which proves them right, and on
// unio. What the other unions fail is shown by `make posix` only.
func TestScenarios(t *testing.T) {
	needed(t)
	t.Setenv(transporttest.Variable, string(transporttest.Chosen()))
	t.Setenv("UNIO", program(t))
	s, err := setUp(t.Context(), t.TempDir(), chosen(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	for _, k := range kinds() {
		if k.peer {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			if k.uring {
				transporttest.NeedUring(t)
			}
			r, err := s.try(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range r.failed() {
				if k.lacks[v.name] != "" {
					continue
				}
				t.Errorf("%s:\n  %s", v.name, strings.Join(v.wrong, "\n  "))
			}
			t.Logf("%d scenarios, %.1f s", len(r.tried), r.took.Seconds())
		})
	}
}

// needed skips the test without root and FUSE, which CI has.
func needed(t *testing.T) {
	t.Helper()
	_, err := os.Stat("/dev/fuse")
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	}
	if err != nil && os.Getenv("UNIO_TEST_REQUIRE") == "all" {
		t.Fatalf("required here: root and FUSE: %v", err)
	}
	if err != nil {
		t.Skipf("needs root and FUSE: %v", err)
	}
}

// program builds the unio under test, unless $UNIO names one.
func program(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("UNIO"); given != "" {
		path, err := filepath.Abs(given)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(t.TempDir(), "unio")
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-ldflags", "-s -w", "-o", path, "unio/cmd/unio")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestItems reads descriptions of files.
func TestItems(t *testing.T) {
	tests := map[string]item{
		"f":                {name: "f", mode: 0o644},
		"f=a":              {name: "f", kind: "=", rest: "a", mode: 0o644},
		"d/":               {name: "d", kind: "/", mode: 0o755},
		"d/f#9@4755:5:6":   {name: "d/f", kind: "#", rest: "9", mode: 0o4755, uid: 5, gid: 6},
		"l->x/y":           {name: "l", kind: "->", rest: "x/y", mode: 0o644},
		"h==f":             {name: "h", kind: "==", rest: "f", mode: 0o644},
		".@1777":           {name: ".", kind: "/", mode: 0o1777},
		"p|@600":           {name: "p", kind: "|", mode: 0o600},
		"z%c1,5":           {name: "z", kind: "%", rest: "c1,5", mode: 0o644},
		"s<=/bin/sh@755":   {name: "s", kind: "<=", rest: "/bin/sh", mode: 0o755},
		"f~1099511627776":  {name: "f", kind: "~", rest: "1099511627776", mode: 0o644},
		"d/sub/@700:1:1":   {name: "d/sub", kind: "/", mode: 0o700, uid: 1, gid: 1},
		"f=hello@000:0:12": {name: "f", kind: "=", rest: "hello", gid: 12},
	}
	for word, want := range tests {
		got, err := parseItem(word)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", word, got, err, want)
		}
	}
	for _, word := range []string{"f@9", "f@644:x:1", "f@644:1:x"} {
		if it, err := parseItem(word); err == nil {
			t.Errorf("%q: %+v, want an error", word, it)
		}
	}
}

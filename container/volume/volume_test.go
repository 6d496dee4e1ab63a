package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVolumes(t *testing.T) {
	s := Open(t.TempDir())
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Fatalf("empty: %v, %v", list, err)
	}
	v, err := s.Create(CreateOptions{Name: "data", Labels: map[string]string{"a": "b"}})
	must(t, err)
	if v.Name != "data" || v.Anonymous || v.Filled || v.Labels["a"] != "b" {
		t.Errorf("made %+v", v)
	}
	if st, err := os.Stat(v.Mountpoint()); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("folder: %v, %v", st, err)
	}
	must(t, os.WriteFile(filepath.Join(v.Mountpoint(), "file"), make([]byte, 9000), 0o600))
	again, err := s.Create(CreateOptions{Name: "data"})
	must(t, err)
	if !again.Created.Equal(v.Created) || again.Labels["a"] != "b" {
		t.Errorf("found %+v", again)
	}
	if size, err := again.Size(); err != nil || size < 9000 {
		t.Errorf("size %d, %v", size, err)
	}
	must(t, again.MarkFilled())
	if got, err := s.Get("data"); err != nil || !got.Filled {
		t.Errorf("filled: %+v, %v", got, err)
	}
	anonymous, err := s.Create(CreateOptions{})
	must(t, err)
	if len(anonymous.Name) != 64 || !anonymous.Anonymous {
		t.Errorf("without a name: %+v", anonymous)
	}
	if err := s.Remove("data", []string{"c1", "c2"}); !errors.Is(err, ErrInUse) || err.Error() != "remove data: volume is in use - [c1, c2]" {
		t.Errorf("in use: %v", err)
	}
	must(t, s.Remove("data", nil))
	if err := s.Remove("data", nil); !errors.Is(err, ErrNotFound) || err.Error() != "get data: no such volume" {
		t.Errorf("gone: %v", err)
	}
	must(t, s.Remove(anonymous.Name, nil))
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"ab": true, "a.b-c_d": true, "0x": true,
		"a": false, "": false, "-a": false, ".tmp-x": false, "a/b": false, "../x": false, "a b": false, "x\n": false, strings.Repeat("x", 256): false,
	} {
		if err := CheckName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	s := Open(t.TempDir())
	if _, err := s.Get("../x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a path: %v", err)
	}
	if _, err := s.Create(CreateOptions{Name: "../x"}); !errors.Is(err, ErrName) {
		t.Errorf("a path: %v", err)
	}
}

// TestLeftOvers has what a kill leaves in the middle of a removal, and what another
// process is at just now.
func TestLeftOvers(t *testing.T) {
	t.Parallel()
	s := Open(t.TempDir())
	for _, name := range []string{tempPrefix + "old", tempPrefix + "new"} {
		must(t, os.MkdirAll(filepath.Join(s.dir, name, "vol/_data/folder"), 0o700))
	}
	hours := time.Now().Add(-2 * tempAge)
	must(t, os.Chtimes(filepath.Join(s.dir, tempPrefix+"old"), hours, hours))
	_, err := s.Create(CreateOptions{Name: "data"})
	must(t, err)
	var left []string
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), tempPrefix+"new data"; got != want {
		t.Errorf("there are %q, want %q", got, want)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("listed: %v, %v", list, err)
	}
}

// TestCreateRace lets many make the same volume: all get it.
func TestCreateRace(t *testing.T) {
	s := Open(t.TempDir())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if v, err := s.Create(CreateOptions{Name: "same"}); err != nil || v.Name != "same" {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
	wg.Wait()
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

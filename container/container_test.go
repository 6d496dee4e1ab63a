package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a1": true, "web.server_1-x": true, "0ab": true, "A-": true,
		"": false, "a": false, "-ab": false, ".ab": false, "_ab": false, "a/b": false,
		"a b": false, "ä1": false, "ab\n": false, strings.Repeat("x", maxName+1): false,
	} {
		err := CheckName(name)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v is no ErrName", name, err)
		}
	}
}

func TestCreateAndLookup(t *testing.T) {
	s := newStore(t)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Fatalf("empty store: %v, %v", list, err)
	}
	one, two := mustCreate(t, s, "one"), mustCreate(t, s, "")
	if two.Name == "" || CheckName(two.Name) != nil || !strings.Contains(two.Name, "_") {
		t.Errorf("invented name %q", two.Name)
	}
	for _, ref := range []string{"one", "/one", one.ID, one.ID[:12], one.ID[:20]} {
		got, err := s.Lookup(ref)
		if err != nil || got.ID != one.ID || got.UpperDir() != one.UpperDir() {
			t.Errorf("%q: %v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"", "three", "on", one.ID + "0", strings.ToUpper(one.ID)} {
		if _, err := s.Lookup(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := s.Lookup("three"); err.Error() != "No such container: three" {
		t.Errorf("message: %v", err)
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].ID != two.ID {
		t.Errorf("list: %v, %v", list, err)
	}
	for _, dir := range []string{one.dir, one.WorkDir(), s.dir} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	s := newStore(t)
	for range 17 { // two of them start with the same digit
		mustCreate(t, s, "")
	}
	ambiguous := 0
	for _, prefix := range strings.Split("0123456789abcdef", "") {
		_, err := s.Lookup(prefix)
		if errors.Is(err, ErrAmbiguous) {
			ambiguous++
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	if ambiguous == 0 {
		t.Error("no prefix was ambiguous")
	}
}

func TestNamesAreUnique(t *testing.T) {
	s := newStore(t)
	one := mustCreate(t, s, "one")
	_, err := s.Create(CreateOptions{Name: "one", Image: digest.FromString("image")})
	want := `Conflict. The container name "/one" is already in use by container "` + one.ID +
		`". You have to remove (or rename) that container to be able to reuse that name.`
	if !errors.Is(err, ErrConflict) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := s.Create(CreateOptions{Name: "-"}); !errors.Is(err, ErrName) ||
		err.Error() != "Invalid container name (-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" {
		t.Errorf("got %v", err)
	}
}

// TestCreateRace lets many take the same name at once: one gets it.
func TestCreateRace(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		wg.Go(func() {
			_, err := s.Create(CreateOptions{Name: "same", Image: digest.FromString("image")})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d got the name", won)
	}
}

func TestInventName(t *testing.T) {
	taken := map[string]bool{}
	for range len(qualities) * 20 {
		name := inventName(func(n string) bool { return taken[n] })
		if taken[name] || CheckName(name) != nil {
			t.Fatalf("bad name %q", name)
		}
		taken[name] = true
	}
	tries := 0
	name := inventName(func(string) bool { tries++; return tries < 30 })
	if CheckName(name) != nil || !strings.ContainsAny(name, "0123456789") {
		t.Errorf("after 30 tries: %q", name)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	c := mustCreate(t, s, "one")
	must(t, os.MkdirAll(filepath.Join(c.UpperDir(), "a/b"), 0o755))
	must(t, os.Chmod(filepath.Join(c.UpperDir(), "a"), 0))
	must(t, s.Remove(t.Context(), c, RemoveOptions{}))
	if _, err := s.Lookup("one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("still there: %v", err)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("left: %v, %v", left, err)
	}
	mustCreate(t, s, "one")
}

func TestRemoveInUse(t *testing.T) {
	s := newStore(t)
	c := mustCreate(t, s, "one")
	unlock, err := lockFile(c.lockPath(), false)
	must(t, err)
	if err := s.Remove(t.Context(), c, RemoveOptions{Force: true}); !errors.Is(err, ErrMounted) {
		t.Errorf("got %v", err)
	}
	unlock()
	must(t, s.Remove(t.Context(), c, RemoveOptions{}))
}

// TestCrashLeavesGarbageOnly puts there what a crash of Create or Remove
// leaves: nobody sees it, and the next Create clears it.
func TestCrashLeavesGarbageOnly(t *testing.T) {
	s := newStore(t)
	mustCreate(t, s, "one")
	half := filepath.Join(s.dir, tempPrefix+newID())
	must(t, os.MkdirAll(filepath.Join(half, "upper/x"), 0o700))
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	mustCreate(t, s, "two")
	if _, err := os.Stat(half); err == nil {
		t.Error("garbage stayed")
	}
}

// TestDamagedRecords checks that one bad record hides neither itself from the
// log nor the others from the list.
func TestDamagedRecords(t *testing.T) {
	for what, text := range map[string]string{
		"empty":   "",
		"json":    "{",
		"version": `{"Version":99}`,
		"id":      `{"Version":1,"ID":"other","Name":"ab"}`,
		"name":    `{"Version":1,"ID":"ID","Name":"../x","Image":"sha256:IMAGE"}`,
		"image":   `{"Version":1,"ID":"ID","Name":"ab","Image":"sha256:../../x"}`,
	} {
		s := newStore(t)
		good, bad := mustCreate(t, s, "good"), mustCreate(t, s, "bad")
		text = strings.ReplaceAll(text, "IMAGE", digest.FromString("x").Encoded())
		must(t, os.WriteFile(filepath.Join(bad.dir, "config.json"), []byte(strings.ReplaceAll(text, "ID\"", bad.ID+"\"")), 0o600))
		list, err := s.List()
		if err != nil || len(list) != 1 || list[0].ID != good.ID {
			t.Errorf("%s: %d containers, %v", what, len(list), err)
		}
		if _, err := s.ListIntact(); err == nil || !strings.Contains(err.Error(), bad.ShortID()) {
			t.Errorf("%s: what guards images says %v", what, err)
		}
	}
}

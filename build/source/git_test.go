package source_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"unio/build/source"
)

// TestGitInHook fetches a repository from within a hook of another one, where git
// has set variables that stand for that one.
func TestGitInHook(t *testing.T) {
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=e@x"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	users, other := t.TempDir(), t.TempDir()
	for dir, name := range map[string]string{users: "mine", other: "theirs"} {
		files(t, dir, map[string]string{name: name})
		git(dir, "init", "-q")
		git(dir, "add", ".")
		git(dir, "commit", "-qm", name)
	}
	before := git(users, "rev-parse", "HEAD")
	t.Setenv("GIT_DIR", filepath.Join(users, ".git"))
	t.Setenv("GIT_WORK_TREE", users)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(users, ".git/index"))
	g, err := source.OpenGit(t.Context(), "file://"+other, source.Options{Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	same(t, names(t, g, ""), "theirs")
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if after := git(users, "rev-parse", "HEAD"); after != before {
		t.Errorf("the user's own repository is at %s, was at %s", after, before)
	}
	if _, err := os.Lstat(filepath.Join(users, "theirs")); err == nil {
		t.Error("another repository was checked out in the user's own")
	}
}

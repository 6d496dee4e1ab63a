package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Git is the tree of one commit of a git repository, checked out to a
// temporary folder until it is closed. Modes are those that git keeps (0644,
// 0755) whatever the umask, and all has the time of the commit, so that one
// commit is one tree everywhere.
type Git struct {
	Tree
	// Commit is the commit's name.
	Commit string
	folder *Folder
	dir    string
}

// IsGit reports whether a context or a source of ADD is a git repository:
// git://, git@HOST:, ssh:// and file:// URLs, github.com/…, and http URLs that
// end in ".git", each with "#REF:FOLDER" or without (moby, pkg/urlutil).
func IsGit(s string) bool {
	for _, p := range []string{"git://", "git@", "ssh://", "file://", "github.com/"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	remote, _, _ := strings.Cut(s, "#")
	return (strings.HasPrefix(remote, "http://") || strings.HasPrefix(remote, "https://")) && strings.HasSuffix(remote, ".git")
}

// OpenGit fetches a repository with the git program. remote is a URL or a
// path, with "#REF:FOLDER" behind it or without: a branch, tag or commit, and
// the folder that becomes the root. The folder .git is not in the tree.
func OpenGit(ctx context.Context, remote string, o Options) (_ *Git, err error) {
	url, ref, sub, err := splitRemote(remote)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Temp, "unio-git-")
	if err != nil {
		return nil, fmt.Errorf("fetch repository: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	g := &Git{dir: dir}
	when, err := g.checkOut(ctx, url, ref)
	if err != nil {
		return nil, err
	}
	return g, g.open(when, sub, o)
}

// splitRemote takes "#REF:FOLDER" off. Nothing of it may look like an option
// of git.
func splitRemote(remote string) (url, ref, sub string, err error) {
	url, fragment, _ := strings.Cut(remote, "#")
	ref, sub, _ = strings.Cut(fragment, ":")
	if strings.HasPrefix(url, "github.com/") {
		url = "https://" + url
	}
	if ref == "" {
		ref = "HEAD"
	}
	if url == "" || url[0] == '-' || ref[0] == '-' {
		return "", "", "", fmt.Errorf("%w: git remote %q", ErrInvalid, remote)
	}
	return url, ref, sub, nil
}

// checkOut fetches one commit and returns its time. A server that does not
// hand out a commit by its name is asked for all.
func (g *Git) checkOut(ctx context.Context, url, ref string) (time.Time, error) {
	if _, err := g.run(ctx, "init", "-q"); err != nil {
		return time.Time{}, err
	}
	if _, err := g.run(ctx, "fetch", "-q", "--depth=1", "--", url, ref); err != nil {
		if _, again := g.run(ctx, "fetch", "-q", "--tags", "--", url, "+refs/heads/*:refs/remotes/origin/*"); again != nil {
			return time.Time{}, err
		}
		if _, err := g.run(ctx, "update-ref", "FETCH_HEAD", ref); err != nil {
			return time.Time{}, err
		}
	}
	if _, err := g.run(ctx, "checkout", "-q", "FETCH_HEAD"); err != nil {
		return time.Time{}, err
	}
	if _, err := os.Lstat(filepath.Join(g.dir, ".gitmodules")); err == nil {
		if _, err := g.run(ctx, "submodule", "update", "-q", "--init", "--recursive", "--depth=1"); err != nil {
			return time.Time{}, err
		}
	}
	out, err := g.run(ctx, "log", "-1", "--format=%H %ct")
	if err != nil {
		return time.Time{}, err
	}
	commit, seconds, _ := strings.Cut(strings.TrimSpace(out), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	g.Commit = commit
	return time.Unix(n, 0), err
}

// run runs git in the folder. It asks nobody for a password, runs no hooks and
// uses no transport that is a program of the repository's choice.
func (g *Git) run(ctx context.Context, args ...string) (string, error) {
	fixed := []string{
		"-C", g.dir, "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never",
		"-c", "safe.directory=*", "-c", "advice.detachedHead=false", "-c", "init.defaultBranch=main",
	}
	cmd := exec.CommandContext(ctx, "git", append(fixed, args...)...)
	cmd.Env = append(withoutRepository(os.Environ()), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "LC_ALL=C")
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	cmd.WaitDelay = gitWait
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(text.Bytes()))
	}
	return out.String(), nil
}

// gitWait is how long a git that was ended waits for its own children, which have
// its output, and may be asking a server.
const gitWait = 5 * time.Second

// withoutRepository leaves out of an environment what stands for a repository
// (git rev-parse --local-env-vars): in a hook of the user's, git would work in his
// instead of ours. What configures git stays, as it may hold the way to a server.
func withoutRepository(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
			"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE":
			return true
		}
		return false
	})
}

// open makes the tree of what was checked out.
func (g *Git) open(when time.Time, sub string, o Options) (err error) {
	if g.folder, err = OpenFolder(g.dir, Options{}); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.folder.Close())
		}
	}()
	t := &commitTree{g.folder, when}
	at, err := Resolve(t, sub)
	if err != nil {
		return fmt.Errorf("folder %q of the repository: %w", sub, err)
	}
	g.Tree, err = Filter(Sub(t, at), o.Ignore)
	return err
}

// Close removes what was checked out.
func (g *Git) Close() error { return errors.Join(g.folder.Close(), os.RemoveAll(g.dir)) }

// commitTree is a checkout as its commit has it.
type commitTree struct {
	f    *Folder
	when time.Time
}

// gitDir is where git keeps its own things, in submodules too.
const gitDir = ".git"

// isGitDir reports whether a name is .git or in it. Patterns of a Dockerfile
// must not reach credentials that lie in a repository's config.
func isGitDir(name string) bool {
	return name == gitDir || strings.HasPrefix(name, gitDir+"/") || strings.Contains(name, "/"+gitDir+"/") || strings.HasSuffix(name, "/"+gitDir)
}

func (t *commitTree) Lstat(name string) (Entry, error) {
	if isGitDir(name) {
		return Entry{}, notExist("stat", name)
	}
	e, err := t.f.Lstat(name)
	return t.as(e), err
}

// as gives an entry the mode and time of the commit.
func (t *commitTree) as(e Entry) Entry {
	mode := uint32(0o644)
	if e.Mode&0o100 != 0 {
		mode = 0o755
	}
	if e.IsLink() {
		mode = 0o777
	}
	e.Mode, e.ModTime, e.ID = e.Mode&unix.S_IFMT|mode, t.when, FileID{}
	return e
}

func (t *commitTree) ReadDir(name string) ([]Entry, error) {
	if isGitDir(name) {
		return nil, notExist("read", name)
	}
	list, err := t.f.ReadDir(name)
	kept := list[:0]
	for _, e := range list {
		if e.Name != gitDir {
			kept = append(kept, t.as(e))
		}
	}
	return kept, err
}

func (t *commitTree) Open(name string) (io.ReadCloser, error) {
	if isGitDir(name) {
		return nil, notExist("open", name)
	}
	return t.f.Open(name)
}

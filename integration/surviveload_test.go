package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// survival is a program that works in dir until ctx ends and checks itself as
// it goes. What it returns checks once more what it has left. scratch lies on
// another filesystem.
type survival func(ctx context.Context, dir, scratch string) (check func() error, err error)

func survivals() map[string]survival {
	return map[string]survival{
		"bytes": surviveBytes, "tar": surviveTar, "sqlite": surviveSqlite, "git": surviveGit,
		"renames": surviveRenames, "listing": surviveListing, "unlinked": surviveUnlinked, "attributes": surviveAttributes,
		"exchange": surviveExchange, "links": surviveLinks,
	}
}

// script runs a shell script in dir.
func script(dir, text string) error {
	cmd := exec.Command("/bin/bash", "-euo", "pipefail", "-c", text)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// diffTrees compares two folders by rsync's rules without rsync: names, types,
// modes, sizes, owners, targets and data.
func diffTrees(a, b string) (string, error) {
	const list = `cd "$1"; find . -mindepth 1 \( -name proc -o -name sys \) -prune -o -printf '%p %y %m %U %G %n %l\n' | sed 's/ d \(.*\) [0-9]* / d \1 /' | sort;
find . -type f -print0 | sort -z | xargs -0 sha256sum`
	cmd := exec.Command("/bin/bash", "-c", "diff <(f() { "+list+"; }; f "+a+") <(f() { "+list+"; }; f "+b+")")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// surviveBytes writes, reads, truncates and maps random stretches of a file and
// compares it with a model, as fsx does.
func surviveBytes(ctx context.Context, dir, _ string) (func() error, error) {
	const most = 1 << 20
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	model, buf := make([]byte, 0, most), make([]byte, most)
	resize := func(size int) {
		if size > len(model) {
			clear(model[len(model):size])
		}
		model = model[:size]
	}
	for ctx.Err() == nil {
		off, n := rnd.IntN(most/2), rnd.IntN(100000)+1
		switch rnd.IntN(6) {
		case 0, 1, 2:
			for i := range buf[:n] {
				buf[i] = byte(rnd.Uint32())
			}
			if _, err := f.WriteAt(buf[:n], int64(off)); err != nil {
				return nil, err
			}
			resize(max(len(model), off+n))
			copy(model[off:], buf[:n])
		case 3:
			if err := f.Truncate(int64(off)); err != nil {
				return nil, err
			}
			resize(off)
		case 4:
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)); err != nil {
				return nil, err
			}
			if off < len(model) {
				clear(model[off:min(off+n, len(model))])
			}
		case 5:
			err = f.Sync()
		}
		got, readErr := f.ReadAt(buf[:len(model)], 0)
		if err != nil || got != len(model) || !bytes.Equal(buf[:got], model) {
			return nil, fmt.Errorf("%d bytes read of %d, or others: %w", got, len(model), errors.Join(err, readErr))
		}
	}
	return func() error {
		data, err := os.ReadFile(filepath.Join(dir, "file"))
		if err == nil && !bytes.Equal(data, model) {
			err = errors.New("other data than was written")
		}
		return err
	}, nil
}

// surviveTar unpacks and packs a tree and removes it.
func surviveTar(ctx context.Context, dir, scratch string) (func() error, error) {
	err := script(scratch, `mkdir t; cd t; for d in a b c/d; do mkdir -p $d; for i in $(seq 60); do echo $d $i >$d/$i; done; done
ln a/1 c/one; ln -s a/2 link; head -c 300000 /dev/urandom >big; chmod 4755 b/1; mkfifo fifo; cd ..; tar cf t.tar t`)
	for err == nil && ctx.Err() == nil {
		err = script(dir, "rm -rf t; tar xf "+scratch+"/t.tar; tar cf - t | tar df - -C "+scratch)
	}
	return func() error {
		out, err := diffTrees(filepath.Join(dir, "t"), filepath.Join(scratch, "t"))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}, err
}

// surviveSqlite commits transactions one by one.
func surviveSqlite(ctx context.Context, dir, _ string) (func() error, error) {
	err := script(dir, `sqlite3 db 'create table t(n integer primary key, text)'`)
	n := 0
	for err == nil && ctx.Err() == nil {
		err = script(dir, fmt.Sprintf(`sqlite3 db "begin; insert into t values(%d, 'x'); insert into t values(%d, hex(randomblob(2000))); commit"`, n, n+1))
		n += 2
	}
	return func() error {
		return script(dir, fmt.Sprintf(`[ "$(sqlite3 db 'pragma integrity_check; select count(*) from t')" = "$(printf 'ok\n%d')" ]`, n))
	}, err
}

// surviveGit commits, and repacks now and then.
func surviveGit(ctx context.Context, dir, scratch string) (func() error, error) {
	const env = "export HOME=%s GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; "
	home := fmt.Sprintf(env, scratch)
	err := script(dir, home+"git init -q .")
	commits := 0
	for err == nil && ctx.Err() == nil {
		commits++
		err = script(dir, fmt.Sprintf(home+"mkdir -p d%d; echo %d >d%d/f; echo %d >>all; git add -A; git commit -qm %d", commits%7, commits, commits%7, commits, commits))
		if commits%10 == 0 && err == nil {
			err = script(dir, home+"git gc -q; git checkout -q HEAD~3; git checkout -q master || git checkout -q main")
		}
	}
	return func() error {
		return script(dir, fmt.Sprintf(home+`git fsck --strict 2>&1; [ "$(git rev-list --count HEAD)" = %d ]; [ -z "$(git status --porcelain)" ]`, commits))
	}, err
}

// surviveRenames moves files and folders about, here and in a plain folder.
func surviveRenames(ctx context.Context, dir, scratch string) (func() error, error) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var names []string
	for _, d := range []string{"a", "b", "a/c", "b/d"} {
		for _, base := range []string{dir, scratch} {
			if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
				return nil, err
			}
		}
		for i := range 4 {
			names = append(names, filepath.Join(d, fmt.Sprint(i)))
		}
	}
	both := func(do func(base string) error) error {
		a, b := do(dir), do(scratch)
		if errors.Is(a, fs.ErrNotExist) && errors.Is(b, fs.ErrNotExist) || errors.Is(b, errnoOf(a)) {
			return nil
		}
		return errors.Join(a, b)
	}
	for i := 0; ctx.Err() == nil; i++ {
		from, to := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
		var err error
		switch rnd.IntN(6) {
		case 0:
			err = both(func(base string) error { return os.WriteFile(filepath.Join(base, to), fmt.Append(nil, i), 0o644) })
		case 1:
			err = both(func(base string) error { return os.Mkdir(filepath.Join(base, to), 0o755) })
		case 2:
			err = both(func(base string) error { return os.Remove(filepath.Join(base, to)) })
		default:
			err = both(func(base string) error {
				return unix.Rename(filepath.Join(base, from), filepath.Join(base, to))
			})
		}
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", from, to, err)
		}
	}
	return func() error {
		out, err := diffTrees(dir, scratch)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}, nil
}

// errnoOf is the errno in an error, or the error itself.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// surviveListing reads folders while it removes what it has seen.
func surviveListing(ctx context.Context, dir, _ string) (func() error, error) {
	for ctx.Err() == nil {
		const files = 400
		for i := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o600); err != nil {
				return nil, err
			}
		}
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		seen := 0
		for {
			names, err := d.Readdirnames(20)
			for _, name := range names {
				seen++
				err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
			}
			if len(names) == 0 {
				break
			}
			if err != nil {
				d.Close()
				return nil, err
			}
		}
		d.Close()
		if seen != files {
			return nil, fmt.Errorf("%d of %d files listed", seen, files)
		}
	}
	return func() error {
		left, err := os.ReadDir(dir)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d files are left", len(left))
		}
		return err
	}, nil
}

// surviveUnlinked uses files that have lost their names, never had one, or were
// replaced, and a folder that is removed.
func surviveUnlinked(ctx context.Context, dir, _ string) (func() error, error) {
	for i := 0; ctx.Err() == nil; i++ {
		text := strings.Repeat(fmt.Sprint(i, " "), 5000)
		name := filepath.Join(dir, "name")
		a, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		b, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = errors.Join(os.WriteFile(name+".new", nil, 0o600), os.Mkdir(name+".dir", 0o700))
		d, openErr := os.Open(name + ".dir")
		err = errors.Join(err, openErr, os.Rename(name+".new", name), os.Remove(name), os.Remove(name+".dir"))
		for _, f := range []*os.File{a, b} {
			_, writeErr := f.WriteString(text)
			err = errors.Join(err, writeErr)
		}
		for round := 0; err == nil && round < 20; round++ {
			for _, f := range []*os.File{a, b, d} {
				err = errors.Join(err, nameless(f, text))
			}
		}
		if err == nil {
			err = unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", b.Fd()), unix.AT_FDCWD, name+".linked", unix.AT_SYMLINK_FOLLOW)
		}
		if err == nil {
			var data []byte
			if data, err = os.ReadFile(name + ".linked"); err == nil && string(data) != text {
				err = errors.New("a file that got its first name has other data")
			}
		}
		err = errors.Join(err, os.Remove(name+".linked"), a.Close(), b.Close(), d.Close())
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// nameless checks a file or folder without a name.
func nameless(f *os.File, text string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink != 0 {
		return fmt.Errorf("%d links of something without a name", st.Nlink)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := unix.Fchmod(int(f.Fd()), 0o600|st.Mode&0o7^0o7); err != nil {
		return err
	}
	buf := make([]byte, len(text)+1)
	if n, _ := f.ReadAt(buf, 0); string(buf[:n]) != text {
		return fmt.Errorf("%d bytes in a file without a name, %d written", n, len(text))
	}
	return nil
}

// surviveAttributes makes and removes extended attributes, which must succeed
// each time.
func surviveAttributes(ctx context.Context, dir, _ string) (func() error, error) {
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return nil, err
	}
	for i := 0; ctx.Err() == nil; i++ {
		value := fmt.Append(nil, i)
		if err := unix.Setxattr(name, "user.a", value, unix.XATTR_CREATE); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
		if err := unix.Setxattr(name, "user.a", value, unix.XATTR_CREATE); err != unix.EEXIST {
			return nil, fmt.Errorf("create what is there: %w", err)
		}
		if err := unix.Removexattr(name, "user.a"); err != nil {
			return nil, fmt.Errorf("remove: %w", err)
		}
		if err := unix.Removexattr(name, "user.a"); err != unix.ENODATA {
			return nil, fmt.Errorf("remove what is not there: %w", err)
		}
	}
	return nil, nil
}

// surviveExchange exchanges two files, over and over.
func surviveExchange(ctx context.Context, dir, _ string) (func() error, error) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(os.WriteFile(a, []byte("0"), 0o600), os.WriteFile(b, []byte("1"), 0o600)); err != nil {
		return nil, err
	}
	for i := 1; ctx.Err() == nil; i++ {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(a)
		if want := fmt.Sprint(i % 2); err != nil || string(data) != want {
			return nil, fmt.Errorf("after %d exchanges: %q, want %s, %w", i, data, want, err)
		}
	}
	return nil, nil
}

// surviveLinks makes and removes names of one file and counts them.
func surviveLinks(ctx context.Context, dir, _ string) (func() error, error) {
	name := filepath.Join(dir, "0")
	if err := os.WriteFile(name, []byte("data"), 0o600); err != nil {
		return nil, err
	}
	expect := func(links uint64, err error) error {
		var st unix.Stat_t
		err = errors.Join(err, unix.Stat(name, &st))
		if err == nil && st.Nlink != links {
			err = fmt.Errorf("%d links, want %d", st.Nlink, links)
		}
		return err
	}
	const most = 6
	for ctx.Err() == nil {
		for i := 1; i < most; i++ {
			if err := expect(uint64(i+1), os.Link(name, filepath.Join(dir, fmt.Sprint(i)))); err != nil {
				return nil, fmt.Errorf("link: %w", err)
			}
		}
		for i := most - 1; i > 0; i-- {
			if err := expect(uint64(i), os.Remove(filepath.Join(dir, fmt.Sprint(i)))); err != nil {
				return nil, fmt.Errorf("unlink: %w", err)
			}
		}
	}
	return nil, nil
}

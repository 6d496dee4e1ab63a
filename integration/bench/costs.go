package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"unio/integration/peers"
)

// costImage is the name of an image of plain files, whose every cost is known:
// "many" holds 10,000 small files in 100 folders, "thousand" 1,000 in one, and
// "large" is 1 GiB that is no hole.
const costImage = "localhost/costs:1"

const costScript = `
mkdir many thousand
for d in $(seq 100); do mkdir many/$d; for i in $(seq 100); do echo "$d $i" >many/$d/$i; done; done
for i in $(seq 1000); do echo $i >thousand/$i; done
head -c 1073741824 /dev/urandom >large
`

// makeCosts makes the image, and a tar of 5,000 files to unpack.
func (s *stage) makeCosts(ctx context.Context) error {
	if s.costs != "" {
		return nil
	}
	lower := s.path("costs")
	if err := os.Mkdir(lower, 0o755); err != nil {
		return err
	}
	script := "cd " + lower + costScript + "tar cf ../many.tar many; tar cf ../five.tar -C many $(seq 50); tar cf ../costs.tar ."
	if _, err := peers.Run(ctx, "bash", "-ec", script); err != nil {
		return err
	}
	if _, err := s.unio(ctx, "import", "-q", s.path("costs.tar"), costImage); err != nil {
		return err
	}
	s.costs = lower
	return os.Remove(s.path("costs.tar"))
}

// work is something to do in a union over the cost image. It is timed, but for
// what ready does before.
type unionWork struct {
	name  string
	ready func(ctx context.Context, dir string) error // may be nil
	do    func(ctx context.Context, dir string) error
	goals []goal
}

func (s *stage) unionWorks() []unionWork {
	return []unionWork{
		{
			name: "write one byte into a file of 1 GiB", do: writeOneByte,
			goals: []goal{{ours: "unio", milliseconds: 5, bytes: 12 << 10}},
		},
		{
			name: "rename a folder of 1,000 files", do: renameFolder,
			goals: []goal{{ours: "unio", milliseconds: 1}},
		},
		{
			name: "chown -R of 10,000 files", ready: walk, do: chownAll,
			goals: []goal{{ours: "unio", peer: "overlayfs", atMost: 0.5}, {ours: "unio", bytes: 8 << 20}},
		},
		{
			name: "untar 5,000 files", do: s.untar("five.tar"),
			goals: []goal{{ours: "unio", peer: "fuse-overlayfs", atMost: 0.6}},
		},
		{
			name: "rm -rf of 10,000 new files", ready: s.untar("many.tar"), do: removeNew,
			goals: []goal{{ours: "unio", peer: "fuse-overlayfs", atMost: 0.6}},
		},
		{name: "create 10,000 empty files", do: createFiles},
	}
}

func writeOneByte(_ context.Context, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "large"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("x"), 512<<20)
	return errors.Join(err, f.Close())
}

// renameFolder does what mv does: where the union cannot rename, it copies.
func renameFolder(ctx context.Context, dir string) error {
	from, to := filepath.Join(dir, "thousand"), filepath.Join(dir, "moved")
	err := os.Rename(from, to)
	if errors.Is(err, unix.EXDEV) {
		_, err = peers.Run(ctx, "mv", from, to)
	}
	return err
}

func walk(ctx context.Context, dir string) error {
	_, err := peers.Run(ctx, "find", dir, "-size", "-1")
	return err
}

func chownAll(ctx context.Context, dir string) error {
	_, err := peers.Run(ctx, "chown", "-R", "1000:1000", filepath.Join(dir, "many"))
	return err
}

func (s *stage) untar(name string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		to := filepath.Join(dir, "new")
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		_, err := peers.Run(ctx, "tar", "xf", s.path(name), "-C", to)
		return err
	}
}

func removeNew(ctx context.Context, dir string) error {
	_, err := peers.Run(ctx, "rm", "-rf", filepath.Join(dir, "new"))
	return err
}

func createFiles(_ context.Context, dir string) error {
	for i := range 10_000 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("thousand/new%d", i)))
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// union mounts a fresh union over the cost image and says where its upper is.
type union struct {
	name  string
	mount func(ctx context.Context) (dir, upper string, err error)
	close func(ctx context.Context) error
}

func (s *stage) unions() []union {
	return []union{
		s.ourUnion(),
		s.peerUnion("overlayfs", func(_ context.Context, dir string) (*peers.Union, error) {
			return peers.MountOverlay(dir, []string{s.costs}, true)
		}),
		s.peerUnion("overlayfs, its options on", func(_ context.Context, dir string) (*peers.Union, error) {
			return peers.MountOverlayWith(dir, []string{s.costs}, "metacopy=on,redirect_dir=on")
		}),
		s.peerUnion("fuse-overlayfs", func(ctx context.Context, dir string) (*peers.Union, error) {
			return peers.MountFuseOverlay(ctx, dir, []string{s.costs})
		}),
	}
}

func (s *stage) ourUnion() union {
	dir := s.path("cost-ours")
	return union{
		name: "unio",
		mount: func(ctx context.Context) (string, string, error) {
			if _, err := s.unio(ctx, "mount", "--name", "cost", costImage, dir); err != nil {
				return "", "", err
			}
			upper, err := s.upperOf("cost")
			return dir, upper, err
		},
		close: all(s.run("unio", "umount", dir), s.run("unio", "rm", "cost")),
	}
}

// upperOf finds the folder that takes the changes of a container.
func (s *stage) upperOf(container string) (string, error) {
	found, err := filepath.Glob(s.path("store/containers/*/config.json"))
	if err != nil {
		return "", err
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.Contains(string(text), `"`+container+`"`) {
			return filepath.Join(filepath.Dir(path), "upper"), nil
		}
	}
	return "", fmt.Errorf("no container %s: %w", container, fs.ErrNotExist)
}

func (s *stage) peerUnion(name string, mount func(context.Context, string) (*peers.Union, error)) union {
	dir := s.path("cost-peer")
	var u *peers.Union
	return union{
		name: name,
		mount: func(ctx context.Context) (string, string, error) {
			var err error
			if u, err = mount(ctx, dir); err != nil {
				return "", "", err
			}
			return u.Dir, u.Upper, nil
		},
		close: func(context.Context) error { return errors.Join(u.Close(), os.RemoveAll(dir)) },
	}
}

// cost makes a contest of one work: each round mounts a fresh union.
func (s *stage) cost(w unionWork) contest {
	c := contest{name: w.name, goals: w.goals, prepare: s.makeCosts}
	for _, u := range s.unions() {
		var dir, upper string
		var before int64
		c.contestants = append(c.contestants, contestant{
			name: u.name,
			prepare: func(ctx context.Context) (err error) {
				if dir, upper, err = u.mount(ctx); err == nil && w.ready != nil {
					err = w.ready(ctx, dir)
				}
				if err == nil {
					before, err = diskUse(upper)
				}
				return err
			},
			work: func(ctx context.Context) error { return w.do(ctx, dir) },
			disk: func() (int64, error) {
				unix.Sync() // blocks are given out when data is written back
				after, err := diskUse(upper)
				return after - before, err
			},
			cleanUp: u.close,
		})
	}
	return c
}

// inodeSize is what an inode takes in ext4's tables, in bytes, which du does
// not count.
const inodeSize = 256

// diskUse sums up what is below dir, in bytes: blocks and inodes.
func diskUse(dir string) (used int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		used += st.Blocks*512 + inodeSize
		return nil
	})
	return used, err
}

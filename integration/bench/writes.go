package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// writeWorks are the workloads that change things.
func (s *stage) writeWorks() []fsWork {
	return slices.Concat(s.changeWorks(), s.pieceWorks(), s.fileWorks())
}

// someOfMany are 34 folders of a hundred files from below.
const someOfMany = "srv/many/[1-3]*"

// changeWorks change a little of what is much.
func (s *stage) changeWorks() []fsWork {
	many, thousand := []string{"srv/many"}, []string{"srv/thousand"}
	return []fsWork{
		{
			name: "copyup", title: "one byte into a file of 1 GiB from below", fresh: true, without: []string{native},
			do: func(ctx context.Context, t *trial) error {
				return t.client(ctx, "onebyte", filepath.Join(t.dir, "srv/large"))
			},
			goals: append(atMost(wallTime, millis(5), millis(5)), atMost(newDisk, 12<<10, 12<<10)...),
		},
		{
			name: "rename", title: "rename of a folder of 1,000 files from below, by mv where that cannot be", fresh: true, copies: thousand,
			do: func(ctx context.Context, t *trial) error {
				return t.client(ctx, "move", filepath.Join(t.dir, "srv/thousand"), filepath.Join(t.dir, "srv/moved"))
			},
			goals: atMost(wallTime, millis(1), millis(1)),
		},
		{
			name: "chown", long: true, title: "chown -R of 3,400 files from below", fresh: true, copies: many,
			ready: script("find " + someOfMany + " -size -1"), do: script("chown -R 1000:1000 " + someOfMany),
			goals: append(ratio(overlayfs, 0.5, 0.5), atMost(newDisk, 34*8<<20/100, 34*8<<20/100)...), // 8 MiB for 10,000,
		},
		{
			name: "create", title: "create 10,000 files", fresh: true,
			do: func(ctx context.Context, t *trial) error {
				return t.client(ctx, "create", t.dir, fmt.Sprint(s.scale(10_000)))
			},
			goals: ratio(fuseOverlay, 0.5, 0.5),
		},
	}
}

// writeOps are the clients that write.
func writeOps() map[string]clientOp {
	return map[string]clientOp{"onebyte": writeOneByte, "move": moveFolder, "create": createFiles}
}

// writeOneByte writes into the middle of FILE.
func writeOneByte(_ *clock, args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("x"), info.Size()/2)
	}
	return errors.Join(err, f.Close())
}

// moveFolder renames FROM to TO as mv does: what cannot be renamed is copied, and mv
// is asked to.
func moveFolder(_ *clock, args []string) error {
	err := os.Rename(args[0], args[1])
	if errors.Is(err, unix.EXDEV) {
		err = exec.Command("mv", args...).Run()
	}
	return err
}

// createFiles makes a folder in DIR and COUNT empty files in it.
func createFiles(c *clock, args []string) error {
	var count int64
	if _, err := fmt.Sscan(args[1], &count); err != nil {
		return fmt.Errorf("how many: %w", err)
	}
	dir := filepath.Join(args[0], "created")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	c.begin()
	for i := range count {
		fd, err := unix.Open(fmt.Sprintf("file%d", i), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	c.end(count, 0)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"unio/integration/peers"
)

// Scripts of work on many files. What they read of the host lies in the tree
// as one folder, or in a tar that is made of it once.
const (
	untarFiles = 5_000
	// sqliteScript commits 30 times, as a program does that changes nothing of
	// SQLite's settings: each commit makes a journal, syncs three or four
	// times and removes it.
	sqliteScript = `python3 - <<'EOF'
import sqlite3
db = sqlite3.connect("base.db")
db.execute("create table t (n integer primary key, text text)")
for commit in range(30):
    for row in range(100):
        db.execute("insert into t (text) values (?)", ("row %d of commit %d" % (row, commit),))
    db.commit()
EOF`
)

// fileWorks make, copy and remove many files, and write in small pieces.
func (s *stage) fileWorks() []fsWork {
	many := []string{"srv/many"}
	return []fsWork{
		{
			name: "untar", title: "untar 5,000 files", fresh: true, ready: s.readyTar, do: s.untar,
			goals: ratio(fuseOverlay, 0.6, 0.33),
		},
		{name: "cpin", long: true, title: "cp -r of 6,900 headers into it", fresh: true, do: s.cpIn, goals: ratio(overlayfs, 1.25, 1.05)},
		{name: "cpout", long: true, title: "cp -r of 6,900 headers out of a new mount", do: s.cpOut, goals: ratio(overlayfs, 1.25, 1.05)},
		{
			name: "rmnew", title: "rm -rf of 4,000 new files", fresh: true,
			ready: func(ctx context.Context, t *trial) error {
				return t.client(ctx, "create", t.dir, fmt.Sprint(s.scale(4_000)))
			},
			do: script("rm -rf created"), goals: ratio(fuseOverlay, 0.6, 0.4),
		},
		{
			name: "rmlower", long: true, title: "rm -rf of 3,400 files from below", fresh: true, copies: many,
			do: script("rm -rf " + someOfMany), goals: ratio(fuseOverlay, 0.6, 0.4),
		},
		{
			name: "sqlite", title: "30 transactions of SQLite", fresh: true, writeback: true,
			do: script(sqliteScript), goals: ratio(overlayfs, 1.3, 1.3),
		},
	}
}

// cpIn copies a folder of the host.
func (s *stage) cpIn(ctx context.Context, t *trial) error {
	flat, err := s.flat(ctx)
	if err != nil {
		return err
	}
	return t.copyHeaders(ctx, flat, filepath.Join(t.dir, "copied"))
}

// copyHeaders copies from one tree into a new folder.
func (t *trial) copyHeaders(ctx context.Context, from, to string) error {
	return t.runIn(ctx, from, "sh", "-ec", "mkdir \"$0\"; to=$0; "+headers+"\ncp -r \"$@\" \"$to\"", to)
}

// cpOut copies into memory, so that no disk has its share in the time.
func (s *stage) cpOut(ctx context.Context, t *trial) error {
	out, err := os.MkdirTemp("/dev/shm", "unio-bench-")
	if err != nil {
		return err
	}
	err = t.copyHeaders(ctx, t.dir, filepath.Join(out, "copied"))
	return errors.Join(err, os.RemoveAll(out))
}

func (s *stage) tarPath() string { return s.path("files.tar") }

// readyTar packs the first files below /usr of the realistic image.
func (s *stage) readyTar(ctx context.Context, _ *trial) error {
	if _, err := os.Stat(s.tarPath()); err == nil {
		return nil
	}
	flat, err := s.flat(ctx)
	if err != nil {
		return err
	}
	pack := `cd "$0" && find usr -type f -size -64k | sort | head -n "$1" | tar -cf "$2" -T -`
	_, err = peers.Run(ctx, "sh", "-ec", pack, flat, fmt.Sprint(s.scale(untarFiles)), s.tarPath())
	return err
}

func (s *stage) untar(ctx context.Context, t *trial) error {
	into := filepath.Join(t.dir, "unpacked")
	if err := os.Mkdir(into, 0o755); err != nil {
		return err
	}
	return t.run(ctx, "tar", "-C", into, "-xf", s.tarPath())
}

// flat is the realistic image as one folder.
func (s *stage) flat(ctx context.Context) (string, error) {
	p, err := s.debian(ctx)
	if err != nil {
		return "", err
	}
	if p.flat == "" {
		return "", errors.New("the image is not there as one folder")
	}
	return filepath.EvalSymlinks(p.flat)
}

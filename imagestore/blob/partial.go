package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// partialPrefix begins the names of temporary files that a later writer of
// the same blob goes on with.
const partialPrefix = "partial-"

// partialPoll is how often a writer looks whether the one before it is done.
const partialPoll = 50 * time.Millisecond

// Partial is a blob that is being fetched, kept when it is not finished: by an
// interrupt, a kill or a reboot. One process at a time has it (flock).
type Partial struct {
	// Have is how many bytes earlier attempts have left, at the start.
	Have int64

	s    *Store
	want digest.Digest
	f    *os.File
}

// Partial takes what there is of a blob, waiting until ctx ends for another
// process that is fetching it. If that one has finished it, ErrExist.
func (s *Store) Partial(ctx context.Context, want digest.Digest) (*Partial, error) {
	if err := Check(want); err != nil {
		return nil, err
	}
	path := filepath.Join(s.tmp, partialPrefix+string(want.Algorithm())+"-"+want.Encoded())
	for {
		p, err := s.tryPartial(path, want)
		if p != nil || err != nil {
			return p, err
		}
		if s.Has(want) {
			return nil, fmt.Errorf("%w: %s", ErrExist, want)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(partialPoll):
		}
	}
}

// tryPartial returns nil if another has the file, or had it when this one
// opened it: then the name may stand for another file by now, or for none.
func (s *Store) tryPartial(path string, want digest.Digest) (*Partial, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open partial blob: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock partial blob: %w", err), f.Close())
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stat partial blob: %w", err), f.Close())
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(mine, there) {
		return nil, f.Close()
	}
	return &Partial{Have: mine.Size(), s: s, want: want, f: f}, nil
}

// Reader reads what earlier attempts have left.
func (p *Partial) Reader() io.Reader { return io.NewSectionReader(p.f, 0, p.Have) }

// Writer returns the writer of the blob: its Data wants what follows what is
// there, its Hash the whole blob. Abort leaves the file for the next attempt.
func (p *Partial) Writer(ctx context.Context) (*Writer, error) {
	alg := p.want.Algorithm()
	if err := os.MkdirAll(filepath.Join(p.s.dir, string(alg)), dirMode); err != nil {
		return nil, fmt.Errorf("create blob folder: %w", err)
	}
	if _, err := p.f.Seek(p.Have, io.SeekStart); err != nil {
		return nil, fmt.Errorf("continue partial blob: %w", err)
	}
	return &Writer{s: p.s, ctx: ctx, f: p.f, alg: alg, hash: alg.Hash(), written: p.Have, started: p.Have, kept: true}, nil
}

// Discard empties the partial blob: what is there is not what it should be.
func (p *Partial) Discard() error {
	p.Have = 0
	if err := p.f.Truncate(0); err != nil {
		return fmt.Errorf("discard partial blob: %w", err)
	}
	return nil
}

// Close lets others have the file. One without any content goes, and so does
// one whose content has become the blob (then its name is gone already).
func (p *Partial) Close() error {
	fi, err := p.f.Stat()
	if err == nil && fi.Size() == 0 {
		err = ignoreMissing(os.Remove(p.f.Name()))
	}
	return errors.Join(err, p.f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// isPartial reports whether a temporary file is one of a [Partial].
func isPartial(path string) bool { return strings.HasPrefix(filepath.Base(path), partialPrefix) }

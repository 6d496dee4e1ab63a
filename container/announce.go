package container

import (
	"errors"
	"log/slog"
	"time"

	"unio/cow"
	"unio/unionfs"
)

// Served is a mount of plain folders, which has neither an image nor a
// container, and its server: the calling process.
type Served struct {
	ID       string // as NewID makes them; servers of one mount have the same
	Dir      string // mount point, absolute and without symbolic links
	Name     string // what lists call it
	ReadOnly bool
	Server   *unionfs.Server
	Upper    *cow.FS // nil: none
	Start    time.Time
	Log      *slog.Logger
}

// Announce makes a mount known to [Store.Mounts], [Store.Unmount] and
// [Store.Stats], until the result is closed.
func (s *Store) Announce(v Served) (*Announced, error) {
	m := &Mount{
		ID: v.ID, Dir: v.Dir, ImageName: v.Name, ReadOnly: v.ReadOnly, Created: v.Start.UTC(),
		Transport: v.Server.Transport(),
	}
	var err error
	if m.Server, err = self(); err != nil {
		return nil, err
	}
	figures := func() *Stats { return figuresOf(m, v.Server, v.Upper, v.Start) }
	a := &Announced{store: s, mount: m}
	if a.stats, err = s.listen(m.ID, statsSocket); err != nil {
		return nil, err
	}
	a.stats.serveStats(figures, v.Log)
	if err := s.note(m); err != nil {
		return nil, errors.Join(err, a.stats.Close())
	}
	return a, nil
}

// NewID makes an ID for [Served].
func NewID() string { return newID() }

// Announced is a mount that has been made known.
type Announced struct {
	store *Store
	mount *Mount
	stats *socket
}

// Kept notes the process that keeps the mount.
func (a *Announced) Kept(pid int) {
	if a == nil {
		return
	}
	var err error
	if a.mount.Keeper, err = processOf(pid); err == nil {
		err = a.store.note(a.mount)
	}
	if err != nil {
		a.store.log.Warn("note the keeper", "dir", a.mount.Dir, "err", err)
	}
}

// Forget takes away what a mount has left that has been made known under an ID
// and has come to its end without its server.
func (s *Store) Forget(id string) {
	if m, err := s.readNote(id); err == nil {
		s.forget(m)
	}
}

// Close takes the note and the socket away.
func (a *Announced) Close() error {
	err := a.stats.Close()
	a.store.forget(a.mount)
	return err
}

// figuresOf are what a server says of itself.
func figuresOf(m *Mount, server *unionfs.Server, upper *cow.FS, start time.Time) *Stats {
	s := &Stats{
		Dir: m.Dir, Target: m.Target(), Requests: server.Requests(),
		Stats: server.Stats(), Process: ownStats(start),
	}
	s.Process.Transport = server.Transport()
	for _, n := range s.Requests {
		s.Total += n
	}
	if upper != nil {
		u := upper.Stats()
		s.Upper = &u
	}
	return s
}

package layer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"unio/cow/fsat"
	"unio/unionfs/merge"
)

// sources is where the data of a merged tree comes from.
type sources struct {
	lower  merge.Lower
	top    *upperDir // nil: there is no upper
	hubDir *upperDir // nil: there is no link hub
}

// openSources opens the upper and its hub; an Upper without Dir has neither.
func openSources(up Upper, lower merge.Lower) (s sources, err error) {
	s.lower = lower
	if up.Dir == "" {
		return s, nil
	}
	if s.top, err = openUpperRoot(up.Dir); err != nil {
		return s, err
	}
	if s.hubDir, err = openHub(up.Work); err != nil {
		s.close()
		return s, fmt.Errorf("open link hub of %s: %w", up.Work, err)
	}
	return s, nil
}

func (s *sources) close() {
	s.top.close()
	s.hubDir.close()
}

// openHub opens WORK/hub; nil if there is none.
func openHub(work string) (*upperDir, error) {
	if work == "" {
		return nil, nil
	}
	fd, err := fsat.OpenRoot(work)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer fsat.Close(fd)
	hub, err := fsat.OpenDir(fd, "hub")
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &upperDir{handle: hub}, nil
}

// open opens the data of a regular file. dir is the folder of the upper it is
// in, if it is in one.
func (s *sources) open(dir *upperDir, n *changeNode) (*sparseData, error) {
	name := n.name
	switch {
	case n.low != 0 && n.limit == 0:
		return s.openLower(n.low)
	case n.from == fromHub:
		dir, name = s.hubDir, hubName(n.hubFile)
	}
	fd, err := dir.fd()
	if err != nil {
		return nil, err
	}
	own, err := openUpper(fd, name, n)
	if err != nil || n.limit == 0 {
		return own, err
	}
	return s.openPartial(own.file.(*upperFile), n)
}

// openUpper opens a file of the upper and makes sure that it is still the one
// that was seen before.
func openUpper(dirfd int, name string, n *changeNode) (*sparseData, error) {
	fd, err := fsat.Open(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errnoIs(err, unix.ENOENT, unix.ELOOP, unix.ENXIO) {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := fsat.Fstat(fd, &st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if st.Dev != n.file.dev || st.Ino != n.file.ino || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(fmt.Errorf("%w: another file is there", ErrChanged), f.Close())
	}
	u := &upperFile{f: f, whole: st.Blocks*512 >= st.Size}
	return &sparseData{file: u}, nil
}

// openLower opens the data of a lower file.
func (s *sources) openLower(ino merge.Ino) (*sparseData, error) {
	var a merge.Attr
	if err := s.lower.Attr(ino, &a); err != nil {
		return nil, err
	}
	segs, err := s.lower.Segments(ino)
	if err != nil {
		return nil, err
	}
	return &sparseData{file: &lowerFile{s.lower, ino, int64(a.Size), segs}}, nil
}

// dataFile is the data of one regular file.
type dataFile interface {
	// readAt reads like [merge.Lower.ReadAt]: short only at the end.
	readAt(p []byte, off int64) (int, error)
	// next returns the first stretch of data that ends behind off; its start
	// is math.MaxInt64 if there is none.
	next(off int64) (start, end int64, err error)
	// grown reports whether the file is no longer of this size.
	grown(size int64) (bool, error)
	close() error
}

// sparseData remembers the stretch of data found last, so that asking for
// holes in order costs one search for each stretch.
type sparseData struct {
	file       dataFile
	start, end int64
}

func (d *sparseData) close() error { return d.file.close() }

// isHole reports whether a stretch holds no data at all.
func (d *sparseData) isHole(s span) (hole bool, err error) {
	if d.end <= s.off {
		if d.start, d.end, err = d.file.next(s.off); err != nil {
			return false, fmt.Errorf("find data: %w", err)
		}
	}
	return d.start >= s.off+s.n, nil
}

// readFull fills p; what lies behind the end of the file is zero. n is how
// much the file had.
func (d *sparseData) readFull(p []byte, off int64) (n int, err error) {
	n, err = d.file.readAt(p, off)
	clear(p[n:])
	return n, err
}

// upperFile is a file on the host.
type upperFile struct {
	f     *os.File
	whole bool // it has as many blocks as it needs: there is no hole
}

func (u *upperFile) readAt(p []byte, off int64) (int, error) {
	n, err := u.f.ReadAt(p, off)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (u *upperFile) next(off int64) (start, end int64, err error) {
	if u.whole {
		return off, math.MaxInt64, nil
	}
	start, err = u.f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return math.MaxInt64, math.MaxInt64, nil
	case errors.Is(err, unix.EINVAL): // a filesystem that does not know
		return off, math.MaxInt64, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = u.f.Seek(start, unix.SEEK_HOLE)
	return start, end, err
}

func (u *upperFile) grown(size int64) (bool, error) {
	fi, err := u.f.Stat()
	if err != nil {
		return false, err
	}
	return fi.Size() != size, nil
}

func (u *upperFile) close() error { return u.f.Close() }

// lowerFile is a file of the lower. A metadata-only upper may be longer than
// it; the rest reads as zeros.
type lowerFile struct {
	lower merge.Lower
	ino   merge.Ino
	size  int64
	segs  []merge.Segment
}

func (l *lowerFile) readAt(p []byte, off int64) (int, error) {
	want := min(int64(len(p)), max(0, l.size-off))
	n, err := l.lower.ReadAt(l.ino, p[:want], off)
	if err == nil && int64(n) < want {
		err = fmt.Errorf("lower node %d ends at %d of %d bytes: %w", l.ino, off+int64(n), l.size, merge.ErrCorrupt)
	}
	if err == nil {
		clear(p[n:])
		n = len(p)
	}
	return n, err
}

func (l *lowerFile) next(off int64) (start, end int64, err error) {
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].Off+l.segs[i].Len > off })
	if i == len(l.segs) {
		return math.MaxInt64, math.MaxInt64, nil
	}
	return l.segs[i].Off, l.segs[i].Off + l.segs[i].Len, nil
}

func (l *lowerFile) grown(int64) (bool, error) { return false, nil }

func (l *lowerFile) close() error { return nil }

package layer

import (
	"errors"
	"math"

	"unio/unionfs/merge"
)

// partialFile is the data of a file of which the upper has only what was
// written: below limit its holes show the lower (docs/formats.md, "The upper
// of a container").
type partialFile struct {
	own   *upperFile
	low   *lowerFile
	limit int64
}

// openPartial joins an open file of the upper with the lower one behind it.
func (s *sources) openPartial(own *upperFile, n *changeNode) (*sparseData, error) {
	low, err := s.openLower(n.low)
	if err != nil {
		return nil, errors.Join(err, own.close())
	}
	own.whole = false // the number of blocks tells nothing here
	return &sparseData{file: &partialFile{own, low.file.(*lowerFile), n.limit}}, nil
}

// readAt reads stretch by stretch, each from its side.
func (p *partialFile) readAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) && off+int64(done) < p.limit {
		n, err := p.readStretch(b[done:], off+int64(done))
		done += n
		if n == 0 || err != nil {
			return done, err
		}
	}
	n, err := p.own.readAt(b[done:], off+int64(done))
	return done + n, err
}

// readStretch reads what comes from one side, off being below the limit.
func (p *partialFile) readStretch(b []byte, off int64) (int, error) {
	start, end, err := p.own.next(off)
	if err != nil {
		return 0, err
	}
	if start <= off {
		return p.own.readAt(b[:min(int64(len(b)), end-off)], off)
	}
	b = b[:min(int64(len(b)), min(start, p.limit)-off)]
	if off+int64(len(b)) > p.low.size {
		return 0, merge.ErrCorrupt // the lower has become shorter
	}
	return p.low.readAt(b, off)
}

// next finds data of either side. It may end a stretch where the other side's
// begins.
func (p *partialFile) next(off int64) (start, end int64, err error) {
	start, end, err = p.own.next(off)
	if err != nil || off >= p.limit {
		return start, end, err
	}
	lowStart, lowEnd, err := p.low.next(off)
	if err != nil || lowStart == math.MaxInt64 || lowStart >= min(start, p.limit) {
		return start, end, err
	}
	return max(lowStart, off), min(lowEnd, p.limit), nil
}

// isLower reports whether the upper has nothing of a stretch, all of which
// shows the lower.
func (p *partialFile) isLower(s span) bool {
	if s.off+s.n > p.limit {
		return false
	}
	start, _, err := p.own.next(s.off)
	return err == nil && start >= s.off+s.n
}

func (p *partialFile) grown(size int64) (bool, error) { return p.own.grown(size) }

func (p *partialFile) close() error { return p.own.close() }

package cow

import (
	"golang.org/x/sys/unix"

	"unio/cow/failpoint"
	"unio/cow/fsat"
	"unio/whiteout"
)

// hide puts a whiteout at name in the upper folder open at fd, where the upper
// has nothing.
func (f *FS) hide(fd int, name string) error {
	err := f.whiteoutAt(func(temp string) error { return fsat.Link(f.tmp, temp, fd, name) })
	if err == nil {
		f.counts.whiteouts.Add(1)
	}
	return err
}

// cover replaces a file of the upper by a whiteout, in one step.
func (f *FS) cover(fd int, name string) error {
	temp := f.tempName()
	if err := f.hide(f.tmp, temp); err != nil {
		return err
	}
	failpoint.Hit("whiteout.linked")
	if err := fsat.Rename(f.tmp, temp, fd, name, 0); err != nil {
		f.discard(temp)
		return err
	}
	return nil
}

// whiteoutAt runs link with the name in WORK/tmp of the whiteout that all
// others are links of, and makes a new one when there is none or it has as
// many links as the filesystem allows.
func (f *FS) whiteoutAt(link func(temp string) error) error {
	f.white.mu.Lock()
	defer f.white.mu.Unlock()
	if f.white.name != "" {
		err := link(f.white.name)
		if err != unix.EMLINK && err != unix.EPERM {
			return err
		}
	}
	temp := f.tempName()
	if err := fsat.Mknod(f.tmp, temp, unix.S_IFCHR, 0); err != nil {
		return err
	}
	if f.white.name != "" {
		f.discard(f.white.name)
	}
	failpoint.Hit("whiteout.made")
	f.white.name = temp
	return link(temp)
}

// setOpaque marks the folder at s: nothing of the lower shows through.
func (f *FS) setOpaque(s spot) error {
	return fsat.SetXattr(s.fd, s.name, f.names.Opaque, []byte(whiteout.OpaqueValue), 0)
}

// clearWhiteouts empties an upper folder that shows nothing, so that it can be
// removed or replaced. It is made opaque first, so that it shows nothing at
// every moment. Preconditions: n.dir.mu is held for writing.
func (f *FS) clearWhiteouts(n *node, white []string) error {
	if len(white) == 0 {
		return nil
	}
	h, err := f.handleOf(n)
	if err != nil {
		return err
	}
	defer h.release()
	if err := f.setOpaque(spot{fd: h.fd}); err != nil {
		return err
	}
	n.dir.lower = 0
	failpoint.Hit("rmdir.opaque")
	for _, name := range white {
		if err := fsat.Unlink(h.fd, name); err != nil {
			return err
		}
		n.dir.drop(name)
		failpoint.Hit("rmdir.cleared")
	}
	return nil
}

package dirlower

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"unio/unionfs/merge"
)

// The journal lets a server take over from a dead one: the kernel goes on with
// numbers that the new process has never looked up. In it stands, for every
// node that somebody has referred to, its parent's number and its name. It is
// a file in memory (memfd) that a third process passes on.
//
//	bytes 0–7   magic
//	bytes 8–15  where the records start
//	records     number, parent's number (8 bytes each), length of the name (2), name
//
// Integers are little-endian. Records are only ever added; what has been
// written before a process died is whole. When most of them are of nodes that
// nobody refers to any more, those that count are written anew behind the
// others, and one write of the start makes them the journal. What lies before
// it is given back.
type journal struct {
	mu    sync.Mutex
	file  *os.File // nil: there is none
	start int64
	end   int64
	live  int64         // bytes of records that may still be needed
	index []journalMark // of an earlier process's records, sorted by number
}

// journalMark says where the record of a number stands.
type journalMark struct {
	ino merge.Ino
	off int64
}

const (
	journalMagic  = "uniodlj1"
	journalHeader = 16
	recordHeader  = 18
	journalSlack  = 1 << 20 // bytes of records that are not needed before any are given back
)

// ErrJournal says that Options.Names is not what another Tree has written.
var ErrJournal = errors.New("not a journal of lower names")

// open takes over a file, which is empty or another process's.
func (j *journal) open(file *os.File) error {
	if file == nil {
		return nil
	}
	st, err := file.Stat()
	if err != nil {
		return fmt.Errorf("journal of lower names: %w", err)
	}
	j.file = file
	if st.Size() == 0 {
		j.start, j.end = journalHeader, journalHeader
		return j.setStart(journalHeader)
	}
	head := make([]byte, journalHeader)
	if _, err := file.ReadAt(head, 0); err != nil || string(head[:8]) != journalMagic {
		return fmt.Errorf("%w: %w", ErrJournal, errors.Join(err, unix.EINVAL))
	}
	j.start = int64(binary.LittleEndian.Uint64(head[8:]))
	if j.start < journalHeader || j.start > st.Size() {
		return fmt.Errorf("%w: it starts at %d of %d", ErrJournal, j.start, st.Size())
	}
	return j.readIndex(st.Size())
}

// setStart says where the records start, in one write.
func (j *journal) setStart(start int64) error {
	head := binary.LittleEndian.AppendUint64([]byte(journalMagic), uint64(start))
	if _, err := j.file.WriteAt(head, 0); err != nil {
		return fmt.Errorf("journal of lower names: %w", err)
	}
	return nil
}

// readIndex finds the records; the last one of a number counts. A record that
// is not whole is the end.
func (j *journal) readIndex(size int64) error {
	head := make([]byte, recordHeader)
	in := io.NewSectionReader(j.file, 0, size)
	buffered := newBackReader(in, j.start)
	off := j.start
	for {
		if err := buffered.read(head, off); err != nil {
			break
		}
		next := off + recordHeader + int64(binary.LittleEndian.Uint16(head[16:]))
		if next > size {
			break
		}
		j.index = append(j.index, journalMark{merge.Ino(binary.LittleEndian.Uint64(head)), off})
		off = next
	}
	j.end, j.live = off, off-j.start
	slices.SortStableFunc(j.index, func(a, b journalMark) int {
		if a.ino != b.ino {
			return cmpIno(a.ino, b.ino)
		}
		return int(min(max(b.off-a.off, -1), 1)) // the last one first
	})
	j.index = slices.CompactFunc(j.index, func(a, b journalMark) bool { return a.ino == b.ino })
	return nil
}

// cmpIno orders different numbers.
func cmpIno(a, b merge.Ino) int {
	if a < b {
		return -1
	}
	return 1
}

// backReader reads forwards in large steps.
type backReader struct {
	in  io.ReaderAt
	buf []byte
	at  int64
	n   int
}

// newBackReader returns a reader that begins at at.
func newBackReader(in io.ReaderAt, at int64) *backReader {
	return &backReader{in: in, buf: make([]byte, 1<<16), at: at}
}

// read fills p from off.
func (r *backReader) read(p []byte, off int64) error {
	if off < r.at || off+int64(len(p)) > r.at+int64(r.n) {
		n, err := r.in.ReadAt(r.buf, off)
		r.at, r.n = off, n
		if n < len(p) {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	copy(p, r.buf[off-r.at:])
	return nil
}

// find returns what an earlier process has recorded of a number.
func (j *journal) find(ino merge.Ino) (up merge.Ino, name string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i, ok := slices.BinarySearchFunc(j.index, ino, func(m journalMark, ino merge.Ino) int {
		if m.ino == ino {
			return 0
		}
		return cmpIno(m.ino, ino)
	})
	if !ok {
		return 0, "", false
	}
	up, name, err := j.read(j.index[i].off)
	return up, name, err == nil
}

// read returns the record at off. Preconditions: j.mu is held.
func (j *journal) read(off int64) (up merge.Ino, name string, err error) {
	head := make([]byte, recordHeader)
	if _, err := j.file.ReadAt(head, off); err != nil {
		return 0, "", err
	}
	text := make([]byte, binary.LittleEndian.Uint16(head[16:]))
	if _, err := j.file.ReadAt(text, off+recordHeader); err != nil {
		return 0, "", err
	}
	return merge.Ino(binary.LittleEndian.Uint64(head[8:])), string(text), nil
}

// appendRecord adds one record to p.
func appendRecord(p []byte, ino, up merge.Ino, name string) []byte {
	p = binary.LittleEndian.AppendUint64(p, uint64(ino))
	p = binary.LittleEndian.AppendUint64(p, uint64(up))
	p = binary.LittleEndian.AppendUint16(p, uint16(len(name)))
	return append(p, name...)
}

// add appends a record. Preconditions: j.mu is held.
func (j *journal) add(ino, up merge.Ino, name string) error {
	record := appendRecord(make([]byte, 0, recordHeader+len(name)), ino, up, name)
	if _, err := j.file.WriteAt(record, j.end); err != nil {
		return err
	}
	j.end += int64(len(record))
	j.live += int64(len(record))
	return nil
}

// record writes down where a node is, and the folders above it, before its
// number leaves the process.
func (t *Tree) record(n *node) {
	j := &t.journal
	if j.file == nil || n.up == nil || n.flag.Load()&recorded != 0 {
		return
	}
	t.record(n.up)
	j.mu.Lock()
	defer j.mu.Unlock()
	if n.flag.Or(recorded)&recorded != 0 {
		return
	}
	if err := j.add(n.ino, n.up.ino, n.name); err != nil {
		n.flag.And(^uint32(recorded))
		t.log.Error("a node is not in the journal: another server will not know it", "name", n.name, "err", err)
	}
}

// unrecord is told of a node that is gone from memory, and rewrites the
// journal when most of it is of such nodes.
func (t *Tree) unrecord(n *node) {
	j := &t.journal
	if j.file == nil || n.flag.Load()&recorded == 0 {
		return
	}
	j.mu.Lock()
	j.live -= int64(recordHeader + len(n.name))
	full := j.end-j.start > 2*j.live+journalSlack
	j.mu.Unlock()
	if !full {
		return
	}
	if err := t.rewriteJournal(); err != nil {
		t.log.Error("the journal of lower names cannot be rewritten", "err", err)
	}
}

// rewriteJournal writes what counts behind what does not.
func (t *Tree) rewriteJournal() error {
	j := &t.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.end-j.start <= 2*j.live+journalSlack {
		return nil // somebody else was first
	}
	start := j.end
	moved, at, err := j.copyIndex(start)
	if err != nil {
		return err
	}
	end, err := t.appendNodes(at)
	if err != nil {
		return err
	}
	if err := j.setStart(start); err != nil {
		return err
	}
	before := j.start
	j.index, j.start, j.end, j.live = moved, start, end, end-start
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	return unix.Fallocate(int(j.file.Fd()), punch, before, start-before)
}

// copyIndex copies the records of an earlier process, which the kernel may
// still refer to, and returns where they are and end. Preconditions: j.mu is
// held.
func (j *journal) copyIndex(at int64) (moved []journalMark, end int64, err error) {
	for _, m := range j.index {
		up, name, err := j.read(m.off)
		if err != nil {
			return nil, 0, err
		}
		record := appendRecord(nil, m.ino, up, name)
		if _, err := j.file.WriteAt(record, at); err != nil {
			return nil, 0, err
		}
		moved = append(moved, journalMark{m.ino, at})
		at += int64(len(record))
	}
	return moved, at, nil
}

// appendNodes writes the records of all nodes in memory that had one.
// Preconditions: t.journal.mu is held.
func (t *Tree) appendNodes(at int64) (int64, error) {
	var buf []byte
	for i := range t.table.shards {
		s := &t.table.shards[i]
		s.mu.Lock()
		for _, n := range s.nodes {
			if n.flag.Load()&recorded != 0 {
				buf = appendRecord(buf, n.ino, n.up.ino, n.name)
			}
		}
		s.mu.Unlock()
	}
	_, err := t.journal.file.WriteAt(buf, at)
	return at + int64(len(buf)), err
}

// resolve looks a number up that an earlier process has given.
func (t *Tree) resolve(ino merge.Ino) (*node, error) {
	up, name, ok := t.journal.find(ino)
	if !ok || up == ino {
		return nil, merge.ErrStale
	}
	parent, err := t.get(up)
	if err != nil {
		return nil, err
	}
	n, err := t.child(parent, name)
	if err != nil {
		return nil, staleIfGone(err)
	}
	if n.ino != ino && ino>>inodeBits == doubleIndex {
		return t.resolveDouble(parent, n, ino)
	}
	if n.ino != ino {
		return nil, merge.ErrStale
	}
	return n, nil
}

// resolveDouble finds a folder that was seen in two places, when it had the
// number of the other.
func (t *Tree) resolveDouble(parent, n *node, ino merge.Ino) (*node, error) {
	f, err := t.folderOf(n)
	if err != nil {
		return nil, err
	}
	twin, fresh := t.enterAs(parent, n.name, ino, &born{layer: n.layer(), folder: true, stack: f.stack})
	if twin == nil {
		return nil, merge.ErrStale
	}
	if fresh {
		t.queue(twin)
	}
	return twin, nil
}

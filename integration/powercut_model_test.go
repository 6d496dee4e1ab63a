package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// blockLen is the unit in which the power-cut test writes, in bytes. Every
// block of a file is filled with a tag that says by which change it was
// written, so that what is found later can be told apart byte by byte.
const blockLen = 4096

// history is what was done to a tree, change by change, and what of it a
// returned fsync has promised to keep. Change t of it has been begun when seq
// is t; what a power cut leaves must be the names as they were after one of
// the changes, and in each block one of the tags since the last promise.
type history struct {
	mu      sync.Mutex
	seq     int
	changes []change            // of names and modes, in order
	files   map[uint64][]*kept  // by inode number; numbers are used again, the last is the newest
	touched map[uint64]int      // inode number → the last change of a name or mode that fsync of it covers
	kept    int                 // the names are at least as after this change
	live    map[key]uint64      // after all changes
	modes   map[uint64]uint32   // after all changes
	places  map[uint64][]key    // the names of each file or folder, after all changes
	folders map[uint64]struct{} // after all changes
}

// key is a name in a folder.
type key struct {
	dir  uint64
	name string
}

// change is one step from a tree to the next.
type change struct {
	seq   int
	names map[key]uint64    // 0: removed
	modes map[uint64]uint32 // permission bits
	what  string
}

// kept is what is known of one file's content.
type kept struct {
	born     int
	promised int                 // everything written up to this change is promised
	sizes    []version[int]      // in blocks
	blocks   [][]version[string] // "" stands for zeros
}

type version[T any] struct {
	seq   int
	value T
}

func newHistory() *history {
	return &history{
		files: map[uint64][]*kept{}, touched: map[uint64]int{}, live: map[key]uint64{}, modes: map[uint64]uint32{},
		places: map[uint64][]key{}, folders: map[uint64]struct{}{},
	}
}

// next begins a change. Preconditions: h.mu is held.
func (h *history) next() int { h.seq++; return h.seq }

// begin records a change of names and modes that is about to be made.
func (h *history) begin(what string, names map[key]uint64, modes map[uint64]uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beginLocked(what, names, modes)
}

// beginLocked is begin. Preconditions: h.mu is held.
func (h *history) beginLocked(what string, names map[key]uint64, modes map[uint64]uint32) {
	c := change{seq: h.next(), names: names, modes: modes, what: what}
	h.changes = append(h.changes, c)
	for k, ino := range names {
		h.touched[k.dir] = c.seq
		h.touch(h.live[k], c.seq)
		h.touch(ino, c.seq)
		h.rename(k, ino)
	}
	for ino, mode := range modes {
		h.touch(ino, c.seq)
		h.modes[ino] = mode
	}
}

func (h *history) touch(ino uint64, seq int) {
	if ino != 0 {
		h.touched[ino] = seq
	}
}

// rename makes k stand for ino.
func (h *history) rename(k key, ino uint64) {
	if old := h.live[k]; old != 0 {
		kept := h.places[old][:0]
		for _, p := range h.places[old] {
			if p != k {
				kept = append(kept, p)
			}
		}
		h.places[old] = kept
	}
	delete(h.live, k)
	if ino != 0 {
		h.live[k] = ino
		h.places[ino] = append(h.places[ino], k)
	}
}

// born enters a file with its first content, as tags. Preconditions: h.mu is
// held.
func (h *history) born(ino uint64, tags []string) {
	f := &kept{born: h.seq, sizes: []version[int]{{h.seq, len(tags)}}}
	for _, tag := range tags {
		f.blocks = append(f.blocks, []version[string]{{h.seq, tag}})
	}
	h.files[ino] = append(h.files[ino], f)
}

// file returns the newest file of that number.
func (h *history) file(ino uint64) *kept {
	list := h.files[ino]
	return list[len(list)-1]
}

func (f *kept) size() int { return f.sizes[len(f.sizes)-1].value }

// write records that count blocks from first on are about to be written, and
// returns their tag.
func (h *history) write(ino uint64, first, count int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	seq, f := h.next(), h.file(ino)
	tag := fmt.Sprintf("v%d", seq)
	for i := range count {
		f.set(first+i, seq, tag)
	}
	f.sizes = append(f.sizes, version[int]{seq, max(f.size(), first+count)})
	return tag
}

// truncate records that the file is about to have size blocks.
func (h *history) truncate(ino uint64, size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seq, f := h.next(), h.file(ino)
	for i := size; i < len(f.blocks); i++ {
		f.set(i, seq, "")
	}
	f.sizes = append(f.sizes, version[int]{seq, size})
}

func (f *kept) set(block, seq int, tag string) {
	for len(f.blocks) <= block {
		f.blocks = append(f.blocks, []version[string]{{f.born, ""}})
	}
	f.blocks[block] = append(f.blocks[block], version[string]{seq, tag})
}

// keep records what a returned fsync promises: the content of a file, and,
// unless it was fdatasync, everything that led to its names.
func (h *history) keep(ino uint64, dataOnly bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.files[ino]) > 0 {
		h.file(ino).promised = h.seq
	}
	if !dataOnly {
		h.kept = max(h.kept, h.touched[ino])
	}
}

// promise is what holds at one moment.
type promise struct {
	names int
	files map[*kept]int
}

// promised returns what is promised now.
func (h *history) promised() promise {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := promise{names: h.kept, files: map[*kept]int{}}
	for _, list := range h.files {
		for _, f := range list {
			p.files[f] = f.promised
		}
	}
	return p
}

func (h *history) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seq
}

// seen is a tree as it was found.
type seen struct {
	names map[key]uint64
	modes map[uint64]uint32
	links map[uint64]uint32   // what st_nlink says, of what is not a folder
	tags  map[uint64][]string // of each block of a regular file
}

// match returns the newest change, from p's on and up to last, after which the
// names and modes were those that were seen.
func (h *history) match(s *seen, p promise, last int) (int, error) {
	state := newState(s)
	found, nearest, at := -1, -1, 0
	for _, c := range h.changes {
		if c.seq > last {
			break
		}
		if c.seq > p.names {
			found, nearest, at = state.judge(found, nearest, at)
		}
		state.apply(c)
	}
	if state.wrong == 0 {
		return state.seq, nil
	}
	if found >= 0 {
		return found, nil
	}
	if state.wrong <= nearest {
		at = state.seq
	}
	return 0, fmt.Errorf("the tree is not as after any change from %d to %d; nearest is %d:\n%s",
		p.names, last, at, h.difference(s, at))
}

// state is the tree after some change, compared with what was seen.
type state struct {
	seen  *seen
	seq   int
	names map[key]uint64
	modes map[uint64]uint32
	wrong int // names and modes that differ
}

func newState(s *seen) *state {
	return &state{seen: s, names: map[key]uint64{}, modes: map[uint64]uint32{}, wrong: len(s.names) + len(s.modes)}
}

func (st *state) judge(found, nearest, at int) (int, int, int) {
	if st.wrong == 0 {
		found = st.seq
	}
	if nearest < 0 || st.wrong <= nearest {
		nearest, at = st.wrong, st.seq
	}
	return found, nearest, at
}

func (st *state) apply(c change) {
	st.seq = c.seq
	for k, ino := range c.names {
		st.wrong -= differ(st.names[k], st.seen.names[k])
		st.names[k] = ino
		st.wrong += differ(ino, st.seen.names[k])
	}
	for ino, mode := range c.modes {
		if want, ok := st.seen.modes[ino]; ok {
			st.wrong -= differ(st.modes[ino], want)
			st.modes[ino] = mode
			st.wrong += differ(mode, want)
		}
	}
}

func differ[T comparable](a, b T) int {
	if a == b {
		return 0
	}
	return 1
}

// difference says how the tree after change seq differs from what was seen.
func (h *history) difference(s *seen, seq int) string {
	names, modes := h.at(seq)
	var lines []string
	for k, ino := range names {
		if ino != s.names[k] {
			lines = append(lines, fmt.Sprintf("%v: inode %d, found %d", k, ino, s.names[k]))
		}
	}
	for k, ino := range s.names {
		if names[k] == 0 {
			lines = append(lines, fmt.Sprintf("%v: nothing, found %d", k, ino))
		}
	}
	for ino, mode := range s.modes {
		if modes[ino] != mode {
			lines = append(lines, fmt.Sprintf("inode %d: mode %o, found %o", ino, modes[ino], mode))
		}
	}
	for _, c := range h.changes {
		if c.seq > seq-5 && c.seq < seq+10 {
			lines = append(lines, fmt.Sprintf("change %d: %s", c.seq, c.what))
		}
	}
	return strings.Join(lines, "\n")
}

// at returns the names and modes after change seq.
func (h *history) at(seq int) (map[key]uint64, map[uint64]uint32) {
	names, modes := map[key]uint64{}, map[uint64]uint32{}
	for _, c := range h.changes {
		if c.seq > seq {
			break
		}
		maps.Copy(names, c.names)
		maps.Copy(modes, c.modes)
	}
	maps.DeleteFunc(names, func(_ key, ino uint64) bool { return ino == 0 })
	return names, modes
}

// checkFiles compares the content of every file of the tree after change at
// with what was promised and what was written until last.
func (h *history) checkFiles(s *seen, p promise, at, last int) []string {
	names, _ := h.at(at)
	count := map[uint64]uint32{}
	for _, ino := range names {
		count[ino]++
	}
	var bad []string
	for ino, tags := range s.tags {
		f := h.fileAt(ino, at)
		if f == nil {
			bad = append(bad, fmt.Sprintf("inode %d is a file that was never made", ino))
			continue
		}
		for _, problem := range f.check(tags, p.files[f], last) {
			bad = append(bad, fmt.Sprintf("inode %d: %s", ino, problem))
		}
		if s.links[ino] != count[ino] {
			bad = append(bad, fmt.Sprintf("inode %d has %d names, its link count says %d", ino, count[ino], s.links[ino]))
		}
	}
	return bad
}

// fileAt returns the file that had that number after change seq.
func (h *history) fileAt(ino uint64, seq int) *kept {
	var at *kept
	for _, f := range h.files[ino] {
		if f.born <= seq {
			at = f
		}
	}
	return at
}

// check compares the tags that were found with those that may be there: the
// last one up to what is kept, and any later one.
func (f *kept) check(tags []string, kept, last int) []string {
	var bad []string
	sizes := window(f.sizes, kept, last)
	least, most := sizes[0], sizes[0]
	for _, n := range sizes {
		least, most = min(least, n), max(most, n)
	}
	if len(tags) < least || len(tags) > most {
		bad = append(bad, fmt.Sprintf("%d blocks, want %d to %d", len(tags), least, most))
	}
	for i, tag := range tags {
		may := []string{""}
		if i < len(f.blocks) {
			may = window(f.blocks[i], kept, last)
		}
		if !slices.Contains(may, tag) {
			bad = append(bad, fmt.Sprintf("block %d holds %q, want one of %q (kept up to change %d, last %d)", i, tag, may, kept, last))
		}
	}
	return bad
}

// window returns the values from the last one up to kept to the last one up to
// last.
func window[T any](list []version[T], kept, last int) []T {
	values := []T{list[0].value}
	for _, v := range list[1:] {
		switch {
		case v.seq <= kept:
			values = []T{v.value}
		case v.seq <= last:
			values = append(values, v.value)
		}
	}
	return values
}

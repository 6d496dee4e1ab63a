package cow

import (
	"cmp"
	"slices"
	"sort"
)

// Cookies of a listing: 1 and 2 are "." and "..", then the lower's own, then
// those of names that only the upper has. These are hashes of the names, so
// that a reader goes on where it was when another server has taken over.
const (
	cookieDots  = 2
	cookieUpper = 1 << 62 // and up, to the largest offset of a file
)

// cookieOf returns the hash of a name: FNV-1a, in 62 bits.
func cookieOf(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return cookieUpper | h>>2
}

// drop forgets what the upper has under name. Preconditions: as for put.
func (d *folder) drop(name string) {
	c := d.children[name]
	if c == nil {
		return
	}
	d.changes++
	delete(d.children, name)
	if c.cookie == 0 {
		return
	}
	c.node = nil
	d.dead++
	if d.dead > 32 && d.dead > len(d.order)/2 {
		d.compact()
	}
}

// compact forgets the dead in the listing; the cookies of the others stay.
func (d *folder) compact() {
	kept, sorted := d.order[:0], 0
	for i, c := range d.order {
		if d.children[c.name] == c {
			kept = append(kept, c)
		}
		if i < d.sorted {
			sorted = len(kept)
		}
	}
	clear(d.order[len(kept):])
	d.order, d.sorted, d.dead = kept, sorted, 0
}

// lockListed locks a folder for reading with its listing in order.
func (d *folder) lockListed() {
	for {
		d.mu.RLock()
		if d.sorted == len(d.order) {
			return
		}
		d.mu.RUnlock()
		d.mu.Lock()
		d.arrange()
		d.mu.Unlock()
	}
}

// arrange brings the names that came since the last time to their place: they
// are sorted and merged with the others, from the end. Names with one hash get
// cookies in a row. Preconditions: d.mu is held for writing.
func (d *folder) arrange() {
	d.compact()
	fresh := slices.Clone(d.order[d.sorted:])
	slices.SortFunc(fresh, func(a, b *child) int { return cmp.Compare(a.cookie, b.cookie) })
	for at, old := len(d.order), d.sorted; len(fresh) > 0; {
		at--
		last := fresh[len(fresh)-1]
		if old > 0 && d.order[old-1].cookie > last.cookie {
			old--
			d.order[at] = d.order[old]
			continue
		}
		d.order[at] = last
		fresh = fresh[:len(fresh)-1]
	}
	d.sorted = len(d.order)
	for i, c := range d.order[:max(len(d.order)-1, 0)] {
		if next := d.order[i+1]; next.cookie <= c.cookie {
			next.cookie = c.cookie + 1
		}
	}
}

// listUpper yields the entries behind cookie after. Preconditions: d is locked
// by lockListed.
func (d *folder) listUpper(after uint64, yield func(Dirent) bool) {
	first := sort.Search(len(d.order), func(i int) bool { return d.order[i].cookie > after })
	for _, c := range d.order[first:] {
		if c.node == nil || d.children[c.name] != c {
			continue
		}
		if !yield(Dirent{Name: c.name, Ino: c.node.ino, Type: c.node.typ, Cookie: c.cookie}) {
			return
		}
	}
}

package cow

import (
	"sync"
	"time"

	"unio/unionfs/merge"
)

// listed knows who may be in the middle of listing a folder. The kernel keeps
// one cache for all who list it, and two things go wrong with that when names
// come and go meanwhile (fuse_readdir_cached in its fs/fuse/readdir.c). A
// reader who has begun with requests goes on with what another one has put into
// the cache, perhaps before the change, and misses names that were there when
// he began. And one who looks for a cookie that is gone may be told that this
// is the end. Neither can happen if no listing is completed in the cache while
// somebody is under way who began before the last change.
type listed struct {
	mu      sync.Mutex
	readers int32  // who began and has not come to the end, as far as is known
	oldest  uint32 // value of changes when the first of them began
	last    int64  // when something was asked last, ns since 1970
}

// abandoned is how long nobody must have asked for those who began to be taken
// as gone: many stop in the middle.
const abandoned = 10 * time.Second

// note takes part in a request for what lies behind cookie after, which found
// nothing more if end is set. It reports whether what the kernel has cached must
// go before it gets the answer. changes tells states of the folder apart.
func (l *listed) note(after uint64, end bool, changes uint32) (drop bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().UnixNano()
	if now-l.last > int64(abandoned) {
		l.readers = 0
	}
	l.last = now
	switch {
	case after == 0 && l.readers == 0:
		l.readers, l.oldest = 1, changes
	case after == 0:
		l.readers++
	case l.readers == 0: // he had it from the cache up to here
		l.readers, l.oldest = 1, changes-1
	}
	drop = end && l.oldest != changes
	if end {
		l.readers--
	}
	return drop
}

// untouched holds the same of folders that the upper has nothing of.
type untouched struct {
	mu      sync.Mutex
	folders map[merge.Ino]*listed
}

// maxUntouched bounds them, should very many listings be abandoned.
const maxUntouched = 1024

// note is [listed.note] for an untouched folder, in which nothing changes.
func (u *untouched) note(ino merge.Ino, after uint64, end bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.folders[ino]
	if l == nil {
		if u.folders == nil || len(u.folders) >= maxUntouched {
			u.folders = make(map[merge.Ino]*listed)
		}
		l = &listed{}
		u.folders[ino] = l
	}
	if l.note(after, end, 0); l.readers <= 0 {
		delete(u.folders, ino)
	}
}

// pass hands over what is known of folder ino, whose first change is near.
func (u *untouched) pass(ino merge.Ino, to *listed) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.folders[ino]; l != nil {
		to.readers, to.oldest, to.last = l.readers, l.oldest, l.last
		delete(u.folders, ino)
	}
}

// OnListing has told called, without any lock held, when the kernel must forget
// what it has cached of a folder's listing: the folder has got another parent, which
// ".." names, or what is cached may be mixed of before and after a change. It must be called before the first request.
func (f *FS) OnListing(told func(folder merge.Ino)) { f.dropListing = told }

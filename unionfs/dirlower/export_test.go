package dirlower

import "unio/unionfs/merge"

// Layers returns how many layers a folder is looked for in.
func (t *Tree) Layers(ino merge.Ino) int {
	n, err := t.get(ino)
	if err != nil {
		return 0
	}
	f, err := t.folderOf(n)
	if err != nil {
		return 0
	}
	return len(f.stack)
}

// Known returns how many nodes are in memory.
func (t *Tree) Known() (n int) {
	for i := range t.table.shards {
		s := &t.table.shards[i]
		s.mu.Lock()
		n += len(s.nodes)
		s.mu.Unlock()
	}
	return n
}

// RecentNodes is how many nodes are kept that nobody refers to.
const RecentNodes = len(recent{}.ring)

// OpenBelow and WalkBelow are the two ways to open a path below a folder.
var (
	OpenBelow = openBelow
	WalkBelow = walkBelow
)

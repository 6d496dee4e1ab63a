package unionfs

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"unio/cow"
)

// foreign tells to which groups who makes a request does not belong; root is
// foreign to none. A request names one group only: the others are looked up
// under /proc, which happens for a few odd files.
func (fs *filesystem) foreign(h *fuse.InHeader) cow.Foreign {
	if h.Uid == 0 {
		return nil
	}
	pid, own := h.Pid, h.Gid
	return func(gid uint32) bool {
		if fs.ids != nil {
			_, gid = fs.ids.show(0, gid)
		}
		return gid != own && !slices.Contains(groupsOf(pid), gid)
	}
}

// groupsOf returns the supplementary groups of a thread (proc_pid_status(5)),
// none if it cannot be seen from here.
func groupsOf(tid uint32) []uint32 {
	text, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	if err != nil {
		return nil
	}
	var list []uint32
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "Groups:")
		if !ok {
			continue
		}
		for word := range strings.FieldsSeq(rest) {
			if gid, err := strconv.ParseUint(word, 10, 32); err == nil {
				list = append(list, uint32(gid))
			}
		}
	}
	return list
}

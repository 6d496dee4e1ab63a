// Package rootless says which users and groups there are in the containers of
// a caller who is not root: root of a container is the caller, and the others
// are those of the host that /etc/subuid and /etc/subgid lend to the caller
// (subuid(5)), as far as newuidmap(1) and newgidmap(1) are there to map them.
//
// A mount for such a container shows every owner as the host knows it ([IDs]),
// so that it shows in the container as the image has it.
package rootless

import (
	"os"
	"os/exec"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"unio/container/runspec"
	"unio/unionfs"
)

// Maps are the users and groups of the caller's containers; nil for root, whose
// containers have those of the host.
func Maps() *runspec.IDMaps {
	if os.Geteuid() == 0 {
		return nil
	}
	m := &runspec.IDMaps{
		UIDs: []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}},
		GIDs: []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}},
	}
	_, errU := exec.LookPath("newuidmap")
	_, errG := exec.LookPath("newgidmap")
	if errU != nil || errG != nil {
		return m
	}
	uids, errU := user.CurrentUserSubUIDs()
	gids, errG := user.CurrentUserSubGIDs()
	if errU != nil || errG != nil || len(uids) == 0 || len(gids) == 0 {
		return m // newuidmap would refuse a mapping of one kind only
	}
	m.UIDs, m.GIDs = lend(m.UIDs, uids), lend(m.GIDs, gids)
	return m
}

// lend appends ranges behind the one for root.
func lend(maps []specs.LinuxIDMapping, ranges []user.SubID) []specs.LinuxIDMapping {
	next := uint32(1)
	for _, r := range ranges {
		const all = 1 << 32
		if r.SubID <= 0 || r.Count <= 0 || r.Count >= all-int64(next) || r.SubID > all-r.Count {
			continue
		}
		maps = append(maps, specs.LinuxIDMapping{ContainerID: next, HostID: uint32(r.SubID), Size: uint32(r.Count)})
		next += uint32(r.Count)
	}
	return maps
}

// IDs is how a mount for the caller's containers shows owners; nil: as they are.
func IDs() *unionfs.IDs {
	m := Maps()
	if m == nil {
		return nil
	}
	return &unionfs.IDs{UIDs: ranges(m.UIDs), GIDs: ranges(m.GIDs)}
}

// Others reports whether a mount of the caller's can and should be open to the
// other users of a container: there are some, and the administrator lets users
// open mounts (user_allow_other, mount.fuse3(8)). Nobody else comes in where the
// folders above keep them out.
func Others() bool {
	m := Maps()
	if m == nil || len(m.UIDs) < 2 {
		return false
	}
	data, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

func ranges(maps []specs.LinuxIDMapping) (list []unionfs.IDRange) {
	for _, m := range maps {
		list = append(list, unionfs.IDRange{Stored: m.ContainerID, Shown: m.HostID, Size: m.Size})
	}
	return list
}

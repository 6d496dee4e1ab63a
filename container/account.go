package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"syscall"

	"github.com/moby/sys/user"
)

// account is whom a program runs as.
type account struct {
	uid, gid int
	groups   []int
	home     string
}

// findAccount looks up USER[:GROUP], names or numbers, in the image's own
// /etc/passwd and /etc/group. The empty word is root. root is the image's root
// folder.
func findAccount(root int, spec string) (*account, error) {
	passwd, err := readTable(root, "/etc/passwd")
	if err == nil {
		var group io.Reader
		if group, err = readTable(root, "/etc/group"); err == nil {
			return parseAccount(spec, passwd, group)
		}
	}
	if spec == "" {
		return &account{groups: []int{0}, home: "/"}, nil // root needs no table
	}
	return nil, err
}

// readTable reads one of the image's tables; a missing one is empty.
func readTable(root int, path string) (io.Reader, error) {
	data, err := readIn(root, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

func parseAccount(spec string, passwd, group io.Reader) (*account, error) {
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return nil, err
	}
	for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
		// The largest number means "unchanged" to the kernel.
		if id < 0 || id >= math.MaxUint32 {
			return nil, fmt.Errorf("user %q: the image gives it the number %d, which no user or group can have", spec, id)
		}
	}
	if u.Home == "" {
		u.Home = "/"
	}
	groups := u.Sgids
	if !slices.Contains(groups, u.Gid) {
		// Without its own group here a program that changes its group would
		// escape what that group is denied (CVE-2022-36109).
		groups = append([]int{u.Gid}, groups...)
	}
	return &account{uid: u.Uid, gid: u.Gid, groups: groups, home: u.Home}, nil
}

// assume makes this process that of the account. In a user namespace with a
// single user the groups stay as they are.
func (a *account) assume(rootless bool) error {
	if rootless && a.uid == 0 && a.gid == 0 {
		return nil
	}
	if rootless {
		return fmt.Errorf("user %d:%d: without root there is only user 0 in the container", a.uid, a.gid)
	}
	if err := syscall.Setgroups(a.groups); err != nil {
		return fmt.Errorf("set supplementary groups: %w", err)
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return fmt.Errorf("set group %d: %w", a.gid, err)
	}
	if err := syscall.Setuid(a.uid); err != nil {
		return fmt.Errorf("set user %d: %w", a.uid, err)
	}
	return nil
}

package runspec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"unio/container/inroot"
)

// Account is whom a program runs as.
type Account struct {
	specs.User
	Home string
}

// findUser looks up a user in the root that the spec names, and groups that are
// added to the user's own.
func findUser(spec *specs.Spec, name string, groups []string) (*Account, error) {
	root, err := openRoot(spec)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	a, err := FindUser(root, name)
	if err != nil {
		return nil, err
	}
	return a, a.addGroups(root, groups)
}

// FindUser looks up USER[:GROUP], names or numbers, in the image's own
// /etc/passwd and /etc/group. The empty word is root. root is a descriptor of
// the image's root folder.
func FindUser(root int, spec string) (*Account, error) {
	passwd, err := readTable(root, "/etc/passwd")
	if err == nil {
		var group io.Reader
		if group, err = readTable(root, "/etc/group"); err == nil {
			return parseAccount(spec, passwd, group)
		}
	}
	if spec == "" { // root needs no table
		return &Account{User: specs.User{AdditionalGids: []uint32{0}}, Home: "/"}, nil
	}
	return nil, err
}

// readTable reads one of the image's tables; a missing one is empty.
func readTable(root int, path string) (io.Reader, error) {
	data, err := inroot.Read(root, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

func parseAccount(spec string, passwd, group io.Reader) (*Account, error) {
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return nil, err
	}
	for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
		if err := checkID(spec, id); err != nil {
			return nil, err
		}
	}
	a := &Account{User: specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}, Home: u.Home}
	if a.Home == "" {
		a.Home = "/"
	}
	// Without its own group here a program that changes its group would escape
	// what that group is denied (CVE-2022-36109).
	if !slices.Contains(u.Sgids, u.Gid) {
		a.AdditionalGids = []uint32{a.GID}
	}
	for _, id := range u.Sgids {
		a.AdditionalGids = append(a.AdditionalGids, uint32(id))
	}
	return a, nil
}

// checkID refuses numbers that the kernel cannot take; the largest means
// "unchanged" to it.
func checkID(spec string, id int) error {
	if id < 0 || id >= math.MaxUint32 {
		return fmt.Errorf("user %q: the image gives it the number %d, which no user or group can have", spec, id)
	}
	return nil
}

// addGroups adds the groups of --group-add.
func (a *Account) addGroups(root int, names []string) error {
	if len(names) == 0 {
		return nil
	}
	group, err := readTable(root, "/etc/group")
	if err != nil {
		return err
	}
	ids, err := user.GetAdditionalGroups(names, group)
	if err != nil {
		return err
	}
	slices.Sort(ids) // they come in any order
	for _, id := range ids {
		if err := checkID("", id); err != nil {
			return err
		}
		if !slices.Contains(a.AdditionalGids, uint32(id)) {
			a.AdditionalGids = append(a.AdditionalGids, uint32(id))
		}
	}
	return nil
}

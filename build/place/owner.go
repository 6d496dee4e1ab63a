package place

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"unio/build/source"
)

// tableLimit bounds the size, in bytes, of an image's passwd and group.
const tableLimit = 16 << 20

// owner is whom files are given to.
type owner struct{ uid, gid uint32 }

// parseOwner reads --chown: USER[:GROUP], each a name of the image's own
// tables or a number. Without a group it is the one named like the user, else
// the user's own, and for a number the same number (docker's documentation of
// COPY --chown; the error texts are those of moby, builder/dockerfile).
func parseOwner(spec string, below source.Tree) (*owner, error) {
	if spec == "" {
		return nil, nil
	}
	name, group, pair := strings.Cut(spec, ":")
	if strings.Contains(group, ":") || name == "" {
		return nil, failed(nil, "invalid chown string format: %s", spec)
	}
	u, err := findUser(name, below)
	if err != nil {
		return nil, chownError(err, "user", name)
	}
	if !pair || group == "" {
		if gid, err := findGroup(name, below); err == nil {
			u.gid = gid
		}
		return u, nil
	}
	if u.gid, err = findGroup(group, below); err != nil {
		return nil, chownError(err, "group", group)
	}
	return u, nil
}

var errNoEntry = errors.New("no entry")

// chownError wraps what went wrong in the sentence that docker's builder says.
func chownError(err error, kind, name string) error {
	id := kind[:1] + "id"
	if errors.Is(err, errNoEntry) {
		err = fmt.Errorf("no such %s: %s", kind, name)
	}
	return failed(err, "unable to convert uid/gid chown string to host mapping: can't find %s for %s %s: %s", id, kind, name, err)
}

// findUser looks a user up by name, and takes a number as it is: as in docker a
// user whose name is a number wins over the number.
func findUser(name string, below source.Tree) (*owner, error) {
	table, err := readTable(below, "etc/passwd")
	if err != nil {
		return nil, err
	}
	list, err := user.ParsePasswdFilter(table, func(u user.User) bool { return u.Name == name })
	if err != nil {
		return nil, fmt.Errorf("/etc/passwd: %w", err)
	}
	if len(list) > 0 {
		uid, ok1 := validID(list[0].Uid)
		gid, ok2 := validID(list[0].Gid)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("/etc/passwd gives it a number that no user can have")
		}
		return &owner{uid, gid}, nil
	}
	id, err := parseID(name)
	return &owner{id, id}, err
}

// findGroup is findUser for groups.
func findGroup(name string, below source.Tree) (uint32, error) {
	table, err := readTable(below, "etc/group")
	if err != nil {
		return 0, err
	}
	list, err := user.ParseGroupFilter(table, func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("/etc/group: %w", err)
	}
	if len(list) == 0 {
		return parseID(name)
	}
	gid, ok := validID(list[0].Gid)
	if !ok {
		return 0, fmt.Errorf("/etc/group gives it a number that no group can have")
	}
	return gid, nil
}

// validID tells numbers that a file can belong to; the largest one means
// "unchanged" to the kernel.
func validID(n int) (uint32, bool) { return uint32(n), n >= 0 && n < math.MaxUint32 }

// parseID reads a number; what is none is a name that no table has.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, errNoEntry
	}
	return uint32(n), nil
}

// readTable reads a table of the image, whose links stay inside; a missing one
// is empty.
func readTable(below source.Tree, name string) (io.Reader, error) {
	if below == nil {
		return bytes.NewReader(nil), nil
	}
	data, err := source.ReadFile(below, name, tableLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

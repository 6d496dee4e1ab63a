package overlayopt

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"unio/unionfs"
)

// option is one word of a list: a key, and a value if there is a "=".
type option struct {
	key, value string
	given      bool // the "=" is there
}

func (w option) String() string {
	if w.given {
		return w.key + "=" + w.value
	}
	return w.key
}

func (w option) bad() error { return fmt.Errorf("mount option %q: bad value", w) }

func (w option) unsupported(why string) error {
	return fmt.Errorf("mount option %q is not supported: %s", w, why)
}

// set carries out one word.
func (o *Options) set(word string) error {
	w := option{}
	w.key, w.value, w.given = strings.Cut(word, "=")
	for _, group := range []func(option) (bool, error){
		o.setFolder, o.setOwners, o.setUpper, o.setServer, o.setName, o.setMount, refused,
	} {
		if known, err := group(w); known || err != nil {
			return err
		}
	}
	if isIgnored(w) {
		return nil
	}
	return fmt.Errorf("%w %q", ErrUnknown, w)
}

// setFolder sets what is united.
func (o *Options) setFolder(w option) (known bool, err error) {
	switch w.key {
	case "lowerdir":
		o.Lower, err = lowers(w.value)
		o.appendedLower = nil
	case "lowerdir+": // one more, in which a colon is a colon
		path := unescape(w.value)
		o.appendedLower = append(o.appendedLower, path)
		err = checkPath(w.key, path)
	case "upperdir":
		o.Upper = unescape(w.value)
		err = checkPath(w.key, o.Upper)
	case "workdir":
		o.Work = unescape(w.value)
		err = checkPath(w.key, o.Work)
	default:
		return false, nil
	}
	return true, err
}

// setOwners sets how owners show.
func (o *Options) setOwners(w option) (known bool, err error) {
	switch w.key {
	case "uidmapping":
		o.IDs.UIDs, err = w.ranges()
	case "gidmapping":
		o.IDs.GIDs, err = w.ranges()
	case "squash_to_uid":
		o.IDs.SquashUID, err = w.id()
	case "squash_to_gid":
		o.IDs.SquashGID, err = w.id()
	case "squash_to_root":
		o.squashAll, err = w.flag()
	case "xattr_permissions":
		switch w.value {
		case "0":
			o.Override = false
		case "2":
			o.Override = true
		default:
			return true, w.unsupported("the values are 0, and 2 for user.containers.override_stat")
		}
	default:
		return false, nil
	}
	return true, err
}

// setUpper sets what the upper holds.
func (o *Options) setUpper(w option) (known bool, err error) {
	switch w.key {
	case "plain", "noplain":
		plain := w.key == "plain"
		o.Plain = &plain
	case "metacopy":
		o.Metacopy, err = w.onOff()
	case "partial":
		o.Partial, err = w.onOff()
	case "redirect_dir":
		err = o.setRedirect(w)
	case "userxattr":
		o.UserXattr, err = w.flag()
	case "volatile":
		o.Volatile, err = w.flag()
	case "fsync":
		var sync *bool
		if sync, err = w.onOff(); err == nil {
			o.Volatile = !*sync
		}
	default:
		return false, nil
	}
	return true, err
}

// setRedirect reads overlayfs's four values. Redirects that are there are
// always followed.
func (o *Options) setRedirect(w option) error {
	on := w.value == "on"
	switch w.value {
	case "on", "off", "follow":
		o.Redirect = &on
		return nil
	case "nofollow":
		return w.unsupported("redirects that are there are followed")
	}
	return w.bad()
}

// setServer sets how the mount is served.
func (o *Options) setServer(w option) (known bool, err error) {
	switch w.key {
	case "static_nlink":
		o.StaticNlink, err = w.flag()
	case "noxattrs":
		o.NoXattrs, err = w.flag()
	case "acl":
		o.ACL = true
	case "noacl":
		o.ACL = false
	case "writeback":
		o.Writeback, err = w.flag()
	case "transport":
		switch w.value {
		case "auto", "dev", "uring":
			o.Transport = w.value
		default:
			return true, w.bad()
		}
	case "timeout":
		o.Timeout, err = w.seconds()
	case "debug":
		o.Debug = true
	case "log":
		o.Log = unescape(w.value)
		err = checkPath(w.key, o.Log)
	default:
		return false, nil
	}
	return true, err
}

// setName sets what /proc/mounts shows.
func (o *Options) setName(w option) (known bool, err error) {
	switch w.key {
	case "fsname":
		o.FsName = unescape(w.value)
	case "subtype":
		o.Subtype = unescape(w.value)
	default:
		return false, nil
	}
	if !w.given || w.value == "" {
		return true, w.bad()
	}
	return true, nil
}

// flag reads a switch without a value, or with one as fuse-overlayfs has it.
func (w option) flag() (bool, error) {
	if !w.given {
		return true, nil
	}
	value, err := w.onOff()
	return err == nil && *value, err
}

func (w option) onOff() (*bool, error) {
	yes, no := true, false
	switch w.value {
	case "on", "1", "true", "yes":
		return &yes, nil
	case "off", "0", "false", "no":
		return &no, nil
	}
	return nil, w.bad()
}

// seconds reads a time in seconds, with a fraction perhaps.
func (w option) seconds() (time.Duration, error) {
	s, err := strconv.ParseFloat(w.value, 64)
	const most = float64(365 * 24 * time.Hour / time.Second)
	switch {
	case err != nil || s != s || s < 0:
		return 0, w.bad()
	case s == 0:
		return -1, nil
	case s >= most:
		return 0, nil // for ever
	}
	return max(time.Duration(s*float64(time.Second)), 1), nil
}

func (w option) id() (*uint32, error) {
	n, err := strconv.ParseUint(w.value, 10, 32)
	if err != nil {
		return nil, w.bad()
	}
	id := uint32(n)
	return &id, nil
}

// ranges reads STORED:SHOWN:SIZE, several one behind the other. Empty parts are
// passed over: containers/storage begins its list with a colon.
func (w option) ranges() ([]unionfs.IDRange, error) {
	var numbers []uint32
	for part := range strings.SplitSeq(w.value, ":") {
		if part == "" {
			continue
		}
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, w.bad()
		}
		numbers = append(numbers, uint32(n))
	}
	if len(numbers) == 0 || len(numbers)%3 != 0 {
		return nil, w.bad()
	}
	var list []unionfs.IDRange
	for ; len(numbers) > 0; numbers = numbers[3:] {
		list = append(list, unionfs.IDRange{Stored: numbers[0], Shown: numbers[1], Size: numbers[2]})
	}
	return list, nil
}

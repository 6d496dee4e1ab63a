package runner

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// limit sets what a process can only lower, or needs root to raise.
func (c *child) limit() error {
	p := c.Spec.Process
	for _, l := range p.Rlimits {
		number, ok := rlimits()[l.Type]
		if !ok {
			return fmt.Errorf("unknown limit %s", l.Type)
		}
		if err := unix.Setrlimit(number, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("error setting rlimits for ready process: error setting rlimit type %d: %w", number, err)
		}
	}
	return nil
}

// rlimits are the kernel's numbers of limits (setrlimit(2)).
func rlimits() map[string]int {
	return map[string]int{
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
		"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
	}
}

// become takes on the program's user, groups and capabilities.
func (c *child) become() error {
	p := c.Spec.Process
	if !c.Foreground {
		if err := newKeyring(); err != nil {
			return err
		}
		if err := lendStreams(int(p.User.UID)); err != nil {
			return err
		}
	}
	caps := p.Capabilities
	if caps != nil {
		if err := c.dropBounding(caps.Bounding); err != nil {
			return err
		}
		if err := c.prctl(unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
			return fmt.Errorf("keep capabilities: %w", err)
		}
	}
	if err := c.changeUser(&p.User); err != nil {
		return err
	}
	return c.confine()
}

// confine gives up what is left of our privileges. A filter of system calls
// comes as late as may be, since what follows it has to be allowed by it: after
// no_new_privs, or without that while there is CAP_SYS_ADMIN (seccomp(2)).
func (c *child) confine() error {
	p := c.Spec.Process
	if c.Filter != nil && !p.NoNewPrivileges {
		if err := c.filterAsRoot(); err != nil {
			return err
		}
	}
	if p.Capabilities != nil {
		if err := c.setCaps(p.Capabilities); err != nil {
			return err
		}
	}
	if p.NoNewPrivileges {
		if err := c.prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if err := c.tie(); err != nil {
		return err
	}
	if c.Filter != nil && p.NoNewPrivileges {
		return c.filter()
	}
	return nil
}

// filterAsRoot installs the filter with a privilege that the program may not
// have; another user's is dormant since the change of users.
func (c *child) filterAsRoot() error {
	if caps := c.Spec.Process.Capabilities; caps != nil {
		const admin = 1 << unix.CAP_SYS_ADMIN
		err := c.capset(capMask(caps.Effective)|admin, capMask(caps.Permitted)|admin, capMask(caps.Inheritable))
		if err != nil {
			return fmt.Errorf("keep CAP_SYS_ADMIN for the seccomp filter: %w", err)
		}
	}
	return c.filter()
}

// filter puts what becomes the program under the filter. An init can be reached
// by programs of the container, so all of it is; one who joins cannot, and may
// need calls of its other threads that the profile has no word of.
func (c *child) filter() error { return c.Filter.Install(c.Init) }

// newKeyring leaves the keys of the caller's session behind (session-keyring(7)).
// A kernel without keys, or a user with too many keyrings, is no reason to fail.
func newKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) // without a name: a new one
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EPERM) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a session keyring: %w", err)
	}
	return nil
}

// tie makes the death of our parent ours. Whoever died before that has hung up.
func (c *child) tie() error {
	if !c.Tied {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("follow the parent: %w", err)
	}
	poll := []unix.PollFd{{Fd: int32(c.control.Fd())}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLHUP != 0 {
		return errors.New("the one who started this container has died")
	}
	return nil
}

// changeUser changes groups first, while that is allowed. In a user namespace
// with one group the groups stay as they are.
func (c *child) changeUser(u *specs.User) error {
	if c.single && u.UID == 0 && u.GID == 0 {
		return nil
	}
	if c.single {
		return fmt.Errorf("user %d:%d: without root there is only user 0 in the container", u.UID, u.GID)
	}
	if err := c.setgroups(u.AdditionalGids); err != nil {
		return fmt.Errorf("set supplementary groups: %w", err)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if err := c.call(unix.SYS_SETRESGID, gid, gid, gid); err != nil {
		return fmt.Errorf("set group %d: %w", u.GID, err)
	}
	if err := c.call(unix.SYS_SETRESUID, uid, uid, uid); err != nil {
		return fmt.Errorf("set user %d: %w", u.UID, err)
	}
	return nil
}

// singleUser reports whether there is one user only, root, in our namespace.
func singleUser() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(data))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}

// lendStreams makes the standard streams the user's, so that programs can open
// /dev/stdout anew. /dev/null is everybody's.
func lendStreams(uid int) error {
	var null unix.Stat_t
	haveNull := unix.Stat(os.DevNull, &null) == nil
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || int(st.Uid) == uid || haveNull && st.Rdev == null.Rdev && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			continue
		}
		err := unix.Fchown(fd, uid, -1)
		harmless := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EROFS)
		if err != nil && !harmless {
			return fmt.Errorf("give a stream to user %d: %w", uid, err)
		}
	}
	return nil
}

// dropBounding takes away what no program in here may ever get.
func (c *child) dropBounding(keep []string) error {
	last, err := capability.LastCap()
	if err != nil {
		return fmt.Errorf("find the kernel's capabilities: %w", err)
	}
	for n := capability.Cap(0); n <= last; n++ {
		if slices.Contains(keep, capName(n)) {
			continue
		}
		if err := c.prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0); err != nil {
			return fmt.Errorf("drop %s: %w", capName(n), err)
		}
	}
	return nil
}

func capName(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// setCaps sets capabilities, ambient ones last.
func (c *child) setCaps(caps *specs.LinuxCapabilities) error {
	err := c.capset(capMask(caps.Effective), capMask(caps.Permitted), capMask(caps.Inheritable))
	if err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	if err := c.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for _, name := range caps.Ambient {
		if err := c.prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(capNumber(name))); err != nil {
			return fmt.Errorf("raise %s: %w", name, err)
		}
	}
	return nil
}

// capMask is a set of capabilities as bits; unknown names are left out.
func capMask(names []string) (mask uint64) {
	for _, name := range names {
		if n := capNumber(name); n >= 0 {
			mask |= 1 << n
		}
	}
	return mask
}

func capNumber(name string) int {
	for _, c := range capability.ListKnown() {
		if capName(c) == name {
			return int(c)
		}
	}
	return -1
}

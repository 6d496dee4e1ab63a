package seccomp

import (
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// verdict is what is to become of one system call.
type verdict struct {
	rules []rule // the first that fits counts
	other uint32 // when none fits
	plain bool   // other was said of the call itself; then there are no rules
}

// rule decides where all of its conditions hold.
type rule struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// verdicts sorts the rules of a profile by the numbers of calls.
func verdicts(profile *specs.LinuxSeccomp, a *arch) (calls map[uint32]verdict, other uint32, err error) {
	other, err = actionOf(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, 0, err
	}
	known := newTable(a.name)
	calls = make(map[uint32]verdict, len(known.lines))
	for i := range profile.Syscalls {
		s := &profile.Syscalls[i]
		action, err := actionOf(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, 0, fmt.Errorf("%v: %w", s.Names, err)
		}
		rules, err := rulesOf(s, action)
		if err != nil {
			return nil, 0, fmt.Errorf("%v: %w", s.Names, err)
		}
		for _, name := range s.Names {
			for _, c := range places(known, name, rules) {
				v, ok := calls[c.number]
				if !ok {
					v.other = other
				}
				v.add(c.rules)
				calls[c.number] = v
			}
		}
	}
	return calls, other, nil
}

// add takes more rules on.
func (v *verdict) add(rules []rule) {
	for _, r := range rules {
		switch {
		case v.plain, r.action == v.other: // says nothing new
		case len(r.args) == 0:
			*v = verdict{other: r.action, plain: true}
		default:
			v.rules = append(v.rules, r)
		}
	}
}

// rulesOf splits an entry of a profile: conditions on the same argument are
// alternatives, as in runc.
func rulesOf(s *specs.LinuxSyscall, action uint32) ([]rule, error) {
	seen := map[uint]bool{}
	split := false
	for _, arg := range s.Args {
		if arg.Index > 5 {
			return nil, fmt.Errorf("there is no argument %d", arg.Index)
		}
		if _, ok := comparisons()[arg.Op]; !ok {
			return nil, fmt.Errorf("operator %q is not known", arg.Op)
		}
		split = split || seen[arg.Index]
		seen[arg.Index] = true
	}
	if !split {
		return []rule{{s.Args, action}}, nil
	}
	var list []rule
	for _, arg := range s.Args {
		list = append(list, rule{[]specs.LinuxSeccompArg{arg}, action})
	}
	return list, nil
}

// place is a number under which a call is made.
type place struct {
	number uint32
	rules  []rule
}

// places finds a call in the table. Sockets and System V IPC have a second way
// in on old architectures, one call for all that says in its first argument
// which is meant; what is said of a call without arguments holds there too. The
// arguments themselves are in memory there, where no filter sees them.
func places(known *tableOf, name string, rules []rule) []place {
	var list []place
	if n, ok := known.number(name); ok {
		list = append(list, place{n, rules})
	}
	through, which, mask := multiplexed(name)
	if through == "" || len(rules) != 1 || len(rules[0].args) > 0 {
		return list
	}
	n, ok := known.number(through)
	if !ok {
		return list
	}
	arg := specs.LinuxSeccompArg{Index: 0, Value: mask, ValueTwo: which, Op: specs.OpMaskedEqual}
	return append(list, place{n, []rule{{[]specs.LinuxSeccompArg{arg}, rules[0].action}}})
}

// multiplexed finds a call in the lists of linux/net.h and linux/ipc.h: the call
// that it goes through, its number there, and which bits of that count.
func multiplexed(name string) (through string, which, mask uint64) {
	sockets := []string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
		"sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	}
	if i := slices.Index(sockets, name); i >= 0 {
		return "socketcall", uint64(i + 1), math.MaxUint32
	}
	ipc := []string{
		1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv", 13: "msgget", 14: "msgctl",
		21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
	}
	if i := slices.Index(ipc, name); i > 0 {
		return "ipc", uint64(i), 0xffff // above lies a version
	}
	return "", 0, 0
}

// actionOf is an action as the kernel's filters return it (linux/seccomp.h).
func actionOf(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if *errno > math.MaxUint16 {
			return 0, fmt.Errorf("errnoRet %d is too large", *errno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, fmt.Errorf("action %q is not supported", a)
}

// lets reports whether a default leaves calls to the kernel or to a tracer.
func lets(action uint32) bool {
	switch action & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return true
	}
	return false
}

package seccomp

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// machines are those that compile knows.
var machines = []string{"amd64", "386", "arm64", "arm", "loong64", "ppc64le", "riscv64", "s390x"}

// call is what a filter sees of a system call.
type call struct {
	arch, number uint32
	args         [6]uint64
}

// bytes is struct seccomp_data in the byte order of an architecture.
func (c *call) bytes(big bool) []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	if big {
		order = binary.BigEndian
	}
	b := order.AppendUint32(order.AppendUint32(nil, c.number), c.arch)
	b = order.AppendUint64(b, 0) // where the program is
	for _, arg := range c.args {
		b = order.AppendUint64(b, arg)
	}
	return b
}

// interpret runs a program as the kernel does (net/core/filter.c).
func interpret(t *testing.T, program code, c *call, big bool) uint32 {
	t.Helper()
	var order binary.ByteOrder = binary.LittleEndian
	if big {
		order = binary.BigEndian
	}
	data := c.bytes(big)
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = order.Uint32(data[i.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == i.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, i.Code)
		}
	}
	t.Fatal("the program ends without a verdict")
	return 0
}

// meaning is a profile as a plain list for one architecture.
type meaning struct {
	a      *arch
	other  uint32
	rules  []numbered // those without arguments first
	newest int64      // the newest call that is named; -1: none
}

type numbered struct {
	number uint32
	rule   rule
}

// meaningOf resolves the names of a profile.
func meaningOf(t *testing.T, p *specs.LinuxSeccomp, a *arch) *meaning {
	t.Helper()
	m := &meaning{a: a, newest: -1, other: must(actionOf(p.DefaultAction, p.DefaultErrnoRet))(t)}
	known := newTable(a.name)
	var later []numbered
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		for _, r := range must(rulesOf(s, must(actionOf(s.Action, s.ErrnoRet))(t)))(t) {
			for _, name := range s.Names {
				for _, at := range places(known, name, []rule{r}) {
					n := numbered{at.number, at.rules[0]}
					if n.number < privateCalls {
						m.newest = max(m.newest, int64(n.number))
					}
					if len(n.rule.args) == 0 {
						m.rules = append(m.rules, n)
					} else {
						later = append(later, n)
					}
				}
			}
		}
	}
	m.rules = append(m.rules, later...)
	return m
}

// decide says what a profile means, without a program.
func (m *meaning) decide(c *call) uint32 {
	if m.a.name == "amd64" && c.number >= x32Bit {
		return nosys
	}
	for _, n := range m.rules {
		if n.number == c.number && n.rule.action != m.other && fits(n.rule.args, m.a, c) {
			return n.rule.action
		}
	}
	named := slices.ContainsFunc(m.rules, func(n numbered) bool { return n.number == c.number })
	if !named && m.newest >= 0 && int64(c.number) > m.newest && !lets(m.other) {
		return nosys
	}
	return m.other
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fits compares arguments as numbers of 64 bits.
func fits(args []specs.LinuxSeccompArg, a *arch, c *call) bool {
	for _, arg := range args {
		got, want, second := c.args[arg.Index], arg.Value, arg.ValueTwo
		if a.narrow {
			got, want, second = uint64(uint32(got)), uint64(uint32(want)), uint64(uint32(second))
		}
		var ok bool
		switch arg.Op {
		case specs.OpEqualTo:
			ok = got == want
		case specs.OpNotEqual:
			ok = got != want
		case specs.OpGreaterThan:
			ok = got > want
		case specs.OpGreaterEqual:
			ok = got >= want
		case specs.OpLessThan:
			ok = got < want
		case specs.OpLessEqual:
			ok = got <= want
		case specs.OpMaskedEqual:
			ok = got&want == second&want
		}
		if !ok {
			return false
		}
	}
	return true
}

// check compares the program of a profile with what the profile means, for many
// calls and for arguments on both sides of all that it compares with.
func check(t *testing.T, p *specs.LinuxSeccomp, machine string, random *rand.Rand) {
	t.Helper()
	program, err := compile(p, machine)
	if err != nil {
		t.Fatalf("%s: %v", machine, err)
	}
	for i, a := range architectures(machine) {
		if i > 0 && !slices.Contains(p.Architectures, a.spec) {
			c := call{arch: a.audit, number: 1}
			if got := interpret(t, program, &c, a.big); got != unix.SECCOMP_RET_KILL_PROCESS {
				t.Errorf("%s on %s: %#x", a.name, machine, got)
			}
			continue
		}
		m := meaningOf(t, p, &a)
		for _, number := range interesting(p, &a, random) {
			for range 6 {
				c := call{arch: a.audit, number: number}
				for n := range c.args {
					c.args[n] = argument(p, random)
				}
				if got, want := interpret(t, program, &c, a.big), m.decide(&c); got != want {
					t.Fatalf("%s on %s, call %d, %#x: %#x, not %#x", a.name, machine, number, c.args, got, want)
				}
			}
		}
	}
}

// interesting are numbers of calls on both sides of all that a profile names.
func interesting(p *specs.LinuxSeccomp, a *arch, random *rand.Rand) []uint32 {
	list := []uint32{0, 1, 470, 511, x32Bit - 1, x32Bit, x32Bit + 1, math.MaxUint32, privateCalls + 1, random.Uint32N(500)}
	known := newTable(a.name)
	for i := range p.Syscalls {
		for _, name := range p.Syscalls[i].Names {
			if n, ok := known.number(name); ok {
				list = append(list, n, n+1, n-1)
			}
		}
	}
	for _, name := range []string{"socketcall", "ipc"} {
		if n, ok := known.number(name); ok {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func argument(p *specs.LinuxSeccomp, random *rand.Rand) uint64 {
	v := random.Uint64N(30)
	if len(p.Syscalls) > 0 {
		s := &p.Syscalls[random.IntN(len(p.Syscalls))]
		if len(s.Args) > 0 {
			arg := s.Args[random.IntN(len(s.Args))]
			v = []uint64{arg.Value, arg.ValueTwo, arg.Value | arg.ValueTwo}[random.IntN(3)] + random.Uint64N(3) - 1
		}
	}
	if random.IntN(4) == 0 {
		v ^= 1 << random.IntN(64)
	}
	return v
}

// TestDefaultProfile checks docker's profile, with and without privileges, on
// every machine.
func TestDefaultProfile(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"}} {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
		p := must(profiles.GetDefaultProfile(spec))(t)
		p.Architectures = append(p.Architectures, specs.ArchARM, specs.ArchX86)
		for _, machine := range machines {
			check(t, p, machine, random)
		}
	}
}

// TestVerdicts pins what docker's profile says on amd64.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	p := must(profiles.GetDefaultProfile(spec))(t)
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	program := must(compile(p, "amd64"))(t)
	const eperm = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	amd64, i386 := uint32(unix.AUDIT_ARCH_X86_64), uint32(unix.AUDIT_ARCH_I386)
	for name, test := range map[string]struct {
		c    call
		want uint32
	}{
		"read":               {call{arch: amd64, number: 0}, unix.SECCOMP_RET_ALLOW},
		"mount":              {call{arch: amd64, number: 165}, eperm},
		"keyctl":             {call{arch: amd64, number: 250}, eperm},
		"clone3":             {call{arch: amd64, number: 435}, nosys},
		"fork":               {call{arch: amd64, number: 56, args: [6]uint64{unix.CLONE_VM}}, unix.SECCOMP_RET_ALLOW},
		"clone, new user":    {call{arch: amd64, number: 56, args: [6]uint64{unix.CLONE_NEWUSER}}, eperm},
		"socket, inet":       {call{arch: amd64, number: 41, args: [6]uint64{unix.AF_INET}}, unix.SECCOMP_RET_ALLOW},
		"socket, vsock":      {call{arch: amd64, number: 41, args: [6]uint64{unix.AF_VSOCK}}, eperm},
		"personality, linux": {call{arch: amd64, number: 135, args: [6]uint64{8}}, unix.SECCOMP_RET_ALLOW},
		"personality, other": {call{arch: amd64, number: 135, args: [6]uint64{8 | 1<<32}}, eperm},
		"one to come":        {call{arch: amd64, number: 600}, nosys},
		"x32":                {call{arch: amd64, number: x32Bit}, nosys},
		"read, i386":         {call{arch: i386, number: 3}, unix.SECCOMP_RET_ALLOW},
		"mount, i386":        {call{arch: i386, number: 21}, eperm},
		"arm":                {call{arch: unix.AUDIT_ARCH_ARM, number: 3}, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := interpret(t, program, &test.c, false); got != test.want {
			t.Errorf("%s: %#x, not %#x", name, got, test.want)
		}
	}
	if len(program) > 1000 {
		t.Errorf("%d instructions", len(program))
	}
}

// TestMultiplexed forbids sockets and shared memory, and tries the other way in.
func TestMultiplexed(t *testing.T) {
	t.Parallel()
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"socket", "shmget"}, Action: specs.ActErrno}},
	}
	program := must(compile(p, "386"))(t)
	for c, want := range map[call]uint32{
		{number: 102, args: [6]uint64{1}}:               unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
		{number: 102, args: [6]uint64{2}}:               unix.SECCOMP_RET_ALLOW,
		{number: 117, args: [6]uint64{23}}:              unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
		{number: 117, args: [6]uint64{1<<16 | 23}}:      unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
		{number: 117, args: [6]uint64{22}}:              unix.SECCOMP_RET_ALLOW,
		{number: 359, args: [6]uint64{unix.AF_NETLINK}}: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM),
	} {
		c.arch = unix.AUDIT_ARCH_I386
		if got := interpret(t, program, &c, false); got != want {
			t.Errorf("%+v: %#x, not %#x", c, got, want)
		}
	}
}

// TestRefused gives profiles that cannot be had.
func TestRefused(t *testing.T) {
	t.Parallel()
	tooBig := uint(1 << 16)
	arg := func(index uint, op specs.LinuxSeccompOperator) []specs.LinuxSyscall {
		args := []specs.LinuxSeccompArg{{Index: index, Op: op}}
		return []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: args}}
	}
	var many []specs.LinuxSeccompArg
	for n := range uint64(2000) {
		many = append(many, specs.LinuxSeccompArg{Index: 0, Value: n, Op: specs.OpEqualTo})
	}
	for want, p := range map[string]specs.LinuxSeccomp{
		`action "SCMP_ACT_NOTIFY" is not supported`: {DefaultAction: specs.ActNotify},
		`action "" is not supported`:                {},
		"errnoRet 65536 is too large":               {DefaultAction: specs.ActErrno, DefaultErrnoRet: &tooBig},
		"there is no argument 6":                    {DefaultAction: specs.ActAllow, Syscalls: arg(6, specs.OpEqualTo)},
		`operator "SCMP_CMP_X" is not known`:        {DefaultAction: specs.ActAllow, Syscalls: arg(0, "SCMP_CMP_X")},
		`flag "SECCOMP_FILTER_FLAG_X" is not`:       {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}},
		"too large for the kernel": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActErrno, Args: many},
		}},
	} {
		if _, err := Compile(&p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

// FuzzProfile makes profiles of random bytes.
func FuzzProfile(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, seed%8)
	}
	f.Fuzz(func(t *testing.T, seed, machine uint64) {
		random := rand.New(rand.NewPCG(seed, machine))
		check(t, randomProfile(random), machines[machine%uint64(len(machines))], random)
	})
}

func randomProfile(random *rand.Rand) *specs.LinuxSeccomp {
	names := []string{
		"read", "write", "open", "openat", "socket", "bind", "shmget", "ipc", "socketcall", "clone3", "mount", "set_tls",
		"no_such_call", "mseal", "futex", "futex_waitv", "personality", "close", "brk", "exit",
	}
	actions := []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActTrap, specs.ActLog, specs.ActTrace, specs.ActKillProcess,
	}
	pick := func() specs.LinuxSeccompAction { return actions[random.IntN(len(actions))] }
	p := &specs.LinuxSeccomp{DefaultAction: pick()}
	if random.IntN(2) == 0 {
		p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchARM, specs.ArchX32}
	}
	for range random.IntN(12) {
		s := specs.LinuxSyscall{Action: pick()}
		if random.IntN(3) == 0 {
			errno := uint(random.IntN(100))
			s.ErrnoRet = &errno
		}
		for range 1 + random.IntN(4) {
			s.Names = append(s.Names, names[random.IntN(len(names))])
		}
		for range random.IntN(7) {
			s.Args = append(s.Args, randomArg(random))
		}
		if random.IntN(3) == 0 {
			s.Args = nil
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

func randomArg(random *rand.Rand) specs.LinuxSeccompArg {
	operators := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
	}
	value := func() uint64 { return random.Uint64() >> random.IntN(64) }
	return specs.LinuxSeccompArg{
		Index: uint(random.IntN(6)), Value: value(), ValueTwo: value(), Op: operators[random.IntN(len(operators))],
	}
}

// BenchmarkCompile is what the filter costs the start of a container.
func BenchmarkCompile(b *testing.B) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	for b.Loop() {
		p, err := profiles.GetDefaultProfile(spec)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}

package seccomp

import (
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// code is a piece of a program. Every piece ends in a verdict, whichever way it
// is gone through, so that pieces can be put behind each other.
type code []unix.SockFilter

// Where a filter finds what it decides by (struct seccomp_data).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16 // six of 8 bytes
)

const (
	// x32Bit marks calls of the x32 ABI among those of amd64.
	x32Bit = 0x40000000
	// privateCalls is where arm has calls of its own, beyond those of all.
	privateCalls = 0xf0000
	nosys        = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// branch goes to yes if the comparison of what was loaded with k holds, else to
// no. A comparison jumps over 255 instructions at most, a plain jump over any.
func branch(compare uint16, k uint32, yes, no code) code {
	test := unix.SockFilter{Code: unix.BPF_JMP | compare | unix.BPF_K, K: k}
	piece := code{test}
	if len(yes) <= 255 {
		piece[0].Jf = uint8(len(yes))
	} else {
		piece[0].Jt = 1
		piece = append(piece, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(yes))})
	}
	return append(append(piece, yes...), no...)
}

// span is a run of numbers with one verdict; it ends where the next begins.
type span struct {
	from uint32
	code code
}

// compileArch builds what decides about the calls of one architecture.
func compileArch(profile *specs.LinuxSeccomp, a *arch) (code, error) {
	calls, other, err := verdicts(profile, a)
	if err != nil {
		return nil, err
	}
	piece := search(spans(calls, other, a))
	if a.name == "amd64" {
		piece = branch(unix.BPF_JGE, x32Bit, code{ret(nosys)}, piece)
	}
	return append(code{load(offsetNumber)}, piece...), nil
}

// spans covers all numbers.
func spans(calls map[uint32]verdict, other uint32, a *arch) []span {
	list := []span{{0, code{ret(other)}}}
	add := func(from uint32, piece code) {
		last := &list[len(list)-1]
		switch {
		case last.from == from:
			last.code = piece
		case !slices.Equal(last.code, piece):
			list = append(list, span{from, piece})
		}
	}
	sorted := slices.Sorted(maps.Keys(calls))
	for i, n := range sorted {
		add(n, calls[n].code(a))
		// Behind the newest call that is named there is nothing.
		gap := other
		newest := i == len(sorted)-1 || sorted[i+1] >= privateCalls
		if newest && sorted[0] < privateCalls && !lets(other) {
			gap = nosys
		}
		add(n+1, code{ret(gap)})
	}
	return merged(list)
}

// merged joins neighbours that say the same: add leaves some where a gap between
// two calls was empty.
func merged(list []span) []span {
	return slices.CompactFunc(list, func(a, b span) bool { return slices.Equal(a.code, b.code) })
}

// search finds the span of the number that was loaded, by halves.
func search(list []span) code {
	if len(list) == 1 {
		return list[0].code
	}
	mid := len(list) / 2
	return branch(unix.BPF_JGE, list[mid].from, search(list[mid:]), search(list[:mid]))
}

// code is what decides about one call.
func (v verdict) code(a *arch) code {
	var piece code
	for i := range v.rules {
		piece = append(piece, v.rules[i].code(a)...)
	}
	return append(piece, ret(v.other))
}

// code decides if all conditions hold, and goes on behind itself if not.
func (r *rule) code(a *arch) code {
	var steps []step
	for i := range r.args {
		condition := conditionOf(&r.args[i], a)
		for j := range condition {
			condition[j].end = len(steps) + len(condition)
		}
		steps = append(steps, condition...)
	}
	piece := make(code, 0, len(steps)+1)
	for at, s := range steps {
		i := s.what
		i.Jt, i.Jf = s.jump(s.yes, at, len(steps)), s.jump(s.no, at, len(steps))
		piece = append(piece, i)
	}
	return append(piece, ret(r.action))
}

// target is where a comparison of a condition goes to.
type target uint8

const (
	next  target = iota // the next step
	holds               // behind the condition, which holds
	fails               // behind the whole rule
)

// step is one instruction of a condition, whose jumps are not counted out yet.
type step struct {
	what    unix.SockFilter
	yes, no target
	end     int // the number of the step behind the condition
}

// jump counts a jump out. Six conditions have 30 steps at most.
func (s *step) jump(t target, at, length int) uint8 {
	switch t {
	case holds:
		return uint8(s.end - at - 1)
	case fails:
		return uint8(length + 1 - at - 1)
	}
	return 0
}

// comparison says how the two halves of an argument are compared.
type comparison struct {
	// greater is left out where equality is all that counts.
	greater target
	equal   bool // compares for equality only
	less    target
	// low is the comparison of the lower halves when the upper ones are equal,
	// and where that leads.
	low     uint16
	yes, no target
}

// comparisons are the operators of profiles.
func comparisons() map[specs.LinuxSeccompOperator]comparison {
	return map[specs.LinuxSeccompOperator]comparison{
		specs.OpEqualTo:      {equal: true, less: fails, low: unix.BPF_JEQ, yes: holds, no: fails},
		specs.OpMaskedEqual:  {equal: true, less: fails, low: unix.BPF_JEQ, yes: holds, no: fails},
		specs.OpNotEqual:     {equal: true, less: holds, low: unix.BPF_JEQ, yes: fails, no: holds},
		specs.OpGreaterThan:  {greater: holds, less: fails, low: unix.BPF_JGT, yes: holds, no: fails},
		specs.OpGreaterEqual: {greater: holds, less: fails, low: unix.BPF_JGE, yes: holds, no: fails},
		specs.OpLessThan:     {greater: fails, less: holds, low: unix.BPF_JGE, yes: fails, no: holds},
		specs.OpLessEqual:    {greater: fails, less: holds, low: unix.BPF_JGT, yes: fails, no: holds},
	}
}

// conditionOf compares an argument, its upper half first. Where arguments have
// 32 bits the upper half is nothing, also in what a profile says.
func conditionOf(arg *specs.LinuxSeccompArg, a *arch) []step {
	value, mask := arg.Value, ^uint64(0)
	if arg.Op == specs.OpMaskedEqual {
		mask, value = arg.Value, arg.ValueTwo&arg.Value
	}
	low, high := uint32(offsetArgs+8*arg.Index), uint32(offsetArgs+8*arg.Index+4)
	if a.big {
		low, high = high, low
	}
	c := comparisons()[arg.Op]
	var steps []step
	test := func(compare uint16, k uint32, yes, no target) {
		steps = append(steps, step{what: unix.SockFilter{Code: unix.BPF_JMP | compare | unix.BPF_K, K: k}, yes: yes, no: no})
	}
	if !a.narrow {
		steps = loadMasked(steps, high, uint32(mask>>32))
		if !c.equal {
			test(unix.BPF_JGT, uint32(value>>32), c.greater, next)
		}
		test(unix.BPF_JEQ, uint32(value>>32), next, c.less)
	}
	steps = loadMasked(steps, low, uint32(mask))
	test(c.low, uint32(value), c.yes, c.no)
	return steps
}

func loadMasked(steps []step, offset, mask uint32) []step {
	steps = append(steps, step{what: load(offset)})
	if mask != ^uint32(0) {
		steps = append(steps, step{what: unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}})
	}
	return steps
}

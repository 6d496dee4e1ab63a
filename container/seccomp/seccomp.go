// Package seccomp turns a profile of system calls, as runtime-spec describes it
// (config-linux.md, "Seccomp"), into a filter for the kernel (seccomp(2)), and
// installs that. Other runtimes leave this to libseccomp, which is C; what a
// profile means here is what it means there with runc:
//
//   - a rule without arguments decides whatever else is said of a call; of
//     several the first counts, and of rules with arguments the first that fits
//     (where such overlap and disagree, libseccomp's order is its own);
//   - two conditions on one argument are alternatives, conditions on several
//     arguments hold together;
//   - names that no table knows are skipped, since a profile has those of all
//     architectures and of kernels to come;
//   - calls newer than all that the profile names do not exist (ENOSYS) where it
//     would forbid them, so that programs fall back on what is older;
//   - programs of a 32-bit architecture that the profile lists may run, those of
//     one that it does not list are killed. Calls of the x32 ABI never exist.
//
// What is not there: SCMP_ACT_NOTIFY, which needs a process that answers.
package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a program that decides about system calls.
type Filter struct {
	// Code is the program: instructions of classic BPF as struct sock_filter, in
	// the byte order of this machine.
	Code []byte
	// Flags are those of seccomp(2).
	Flags uintptr
}

// maxLength is how many instructions the kernel takes (linux/bpf_common.h).
const maxLength = 4096

// Compile builds the filter of a profile for this machine.
func Compile(profile *specs.LinuxSeccomp) (*Filter, error) {
	program, err := compile(profile, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	flags, err := flagsOf(profile.Flags)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	f := &Filter{Flags: flags}
	for _, i := range program {
		f.Code = binary.NativeEndian.AppendUint16(f.Code, i.Code)
		f.Code = append(f.Code, i.Jt, i.Jf)
		f.Code = binary.NativeEndian.AppendUint32(f.Code, i.K)
	}
	return f, nil
}

// flagsOf reads the flags of a profile. Without any, the filter does not slow
// programs down by a mitigation that they did not ask for, as in runc.
func flagsOf(list []specs.LinuxSeccompFlag) (flags uintptr, err error) {
	if list == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	for _, f := range list {
		switch f {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // Install knows whether there are threads
		default:
			return 0, fmt.Errorf("flag %q is not supported", f)
		}
	}
	return flags, nil
}

// arch is an architecture as the kernel tells it to a filter.
type arch struct {
	name   string // the column of the table
	audit  uint32 // AUDIT_ARCH_* of linux/audit.h
	narrow bool   // arguments have 32 bits
	big    bool   // the upper half of an argument comes first
	spec   specs.Arch
}

// architectures are those that a machine runs programs of, its own first.
func architectures(native string) []arch {
	switch native {
	case "amd64":
		return []arch{
			{name: "amd64", audit: unix.AUDIT_ARCH_X86_64, spec: specs.ArchX86_64},
			{name: "386", audit: unix.AUDIT_ARCH_I386, narrow: true, spec: specs.ArchX86},
		}
	case "386":
		return []arch{{name: "386", audit: unix.AUDIT_ARCH_I386, narrow: true, spec: specs.ArchX86}}
	case "arm64":
		return []arch{
			{name: "arm64", audit: unix.AUDIT_ARCH_AARCH64, spec: specs.ArchAARCH64},
			{name: "arm", audit: unix.AUDIT_ARCH_ARM, narrow: true, spec: specs.ArchARM},
		}
	case "arm":
		return []arch{{name: "arm", audit: unix.AUDIT_ARCH_ARM, narrow: true, spec: specs.ArchARM}}
	case "loong64":
		return []arch{{name: "loong64", audit: unix.AUDIT_ARCH_LOONGARCH64, spec: specs.ArchLOONGARCH64}}
	case "ppc64le":
		return []arch{{name: "ppc64le", audit: unix.AUDIT_ARCH_PPC64LE, spec: specs.ArchPPC64LE}}
	case "riscv64":
		return []arch{{name: "riscv64", audit: unix.AUDIT_ARCH_RISCV64, spec: specs.ArchRISCV64}}
	case "s390x":
		return []arch{{name: "s390x", audit: unix.AUDIT_ARCH_S390X, big: true, spec: specs.ArchS390X}}
	}
	return nil
}

// compile builds the program for a machine. It looks at the architecture of a
// call first, since numbers mean something else on each.
func compile(profile *specs.LinuxSeccomp, native string) (code, error) {
	list := architectures(native)
	if list == nil {
		return nil, fmt.Errorf("the system calls of %s are not known", native)
	}
	program := code{load(offsetArch)}
	for i := range list {
		if i > 0 && !slices.Contains(profile.Architectures, list[i].spec) {
			continue
		}
		part, err := compileArch(profile, &list[i])
		if err != nil {
			return nil, err
		}
		program = append(program, branch(unix.BPF_JEQ, list[i].audit, part, nil)...)
	}
	program = append(program, ret(unix.SECCOMP_RET_KILL_PROCESS))
	if len(program) > maxLength {
		return nil, errors.New("it is too large for the kernel")
	}
	return program, nil
}

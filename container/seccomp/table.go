package seccomp

import (
	_ "embed" // for syscalls.tsv
	"slices"
	"strconv"
	"strings"
)

// table lists the numbers of system calls: a line each, the name first, then a
// number or "-" for each architecture that the first line names. It is derived
// from the kernel's headers as golang.org/x/sys/unix has them, and grows with
// that module: go test -run TestTable -update ./container/seccomp
//
//go:embed syscalls.tsv
var table string

// tableOf is the table for one architecture.
type tableOf struct {
	lines  []string // sorted by name, without the first
	column int
}

// newTable picks the column of an architecture.
func newTable(arch string) *tableOf {
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	column := slices.Index(strings.Split(lines[0], "\t"), arch)
	return &tableOf{lines[1:], column}
}

// number finds a system call.
func (t *tableOf) number(name string) (uint32, bool) {
	at, _ := slices.BinarySearchFunc(t.lines, name, func(line, name string) int {
		known, _, _ := strings.Cut(line, "\t")
		return strings.Compare(known, name)
	})
	if at == len(t.lines) || t.column < 0 {
		return 0, false
	}
	known, rest, _ := strings.Cut(t.lines[at], "\t")
	for range t.column - 1 {
		_, rest, _ = strings.Cut(rest, "\t")
	}
	field, _, _ := strings.Cut(rest, "\t")
	n, err := strconv.ParseUint(field, 10, 32)
	return uint32(n), known == name && err == nil
}

package seccomp

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write syscalls.tsv anew")

// columns are the architectures of syscalls.tsv, as Go calls them.
var columns = []string{"amd64", "386", "arm64", "arm", "loong64", "ppc64le", "riscv64", "s390x"}

// TestTable derives the table again from golang.org/x/sys, and fails when that
// knows system calls which the table lacks.
func TestTable(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]map[string]string{}
	for _, arch := range columns {
		for name, number := range headers(t, filepath.Join(strings.TrimSpace(string(out)), "unix"), arch) {
			if calls[name] == nil {
				calls[name] = map[string]string{}
			}
			calls[name][arch] = number
		}
	}
	text := written(calls)
	if *update {
		if err := os.WriteFile("syscalls.tsv", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if text != table {
		t.Error("syscalls.tsv is not what golang.org/x/sys says: go test -run TestTable -update writes it")
	}
}

// headers reads the numbers of one architecture.
func headers(t *testing.T, dir, arch string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "zsysnum_linux_"+arch+".go"))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]string{}
	for _, m := range regexp.MustCompile(`\tSYS_(\w+) += (\d+)\n`).FindAllStringSubmatch(string(data), -1) {
		calls[strings.ToLower(m[1])] = m[2]
	}
	// These are no calls but bounds (asm/unistd.h).
	delete(calls, "syscall_mask")
	delete(calls, "arch_specific_syscall")
	if arch == "arm" { // private calls of the architecture, which x/sys leaves out
		calls["breakpoint"], calls["cacheflush"], calls["set_tls"] = "983041", "983042", "983045"
	}
	return calls
}

// written is the table as a file.
func written(calls map[string]map[string]string) string {
	lines := []string{}
	for name, of := range calls {
		line := name
		for _, arch := range columns {
			number := of[arch]
			if number == "" {
				number = "-"
			}
			line += "\t" + number
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return fmt.Sprintf("name\t%s\n%s\n", strings.Join(columns, "\t"), strings.Join(lines, "\n"))
}

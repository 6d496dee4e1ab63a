package overlayopt

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// words yields the options in a value of -o, escapes still in them. A comma
// behind a backslash ends none, and none between the quotes that an SELinux
// context may stand in (selinux_eat_lsm_opts).
func words(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for value != "" {
			end := wordEnd(value)
			if word := value[:end]; word != "" && !yield(word) {
				return
			}
			value = value[min(end+1, len(value)):]
		}
	}
}

func wordEnd(s string) int {
	if key, rest, ok := strings.Cut(s, `="`); ok && isLabel(key) {
		if closing := strings.IndexByte(rest, '"'); closing >= 0 {
			quoted := len(key) + len(`="`) + closing + 1
			return quoted + commaIn(s[quoted:])
		}
	}
	return commaIn(s)
}

// commaIn returns where the first comma is that no backslash takes as it is, or
// the length of s.
func commaIn(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			return i
		}
	}
	return len(s)
}

// unescape takes what stands behind a backslash as it is (ovl_unescape). One
// at the end stands for nothing.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				break
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// lowers splits a list of lower folders at its colons and unescapes them
// (ovl_parse_param_lowerdir). Empty ones at both ends, which a variable without
// a value leaves, are passed over as fuse-overlayfs does. "::" is overlayfs's
// mark of data-only folders.
func lowers(value string) ([]string, error) {
	var list []string
	start := 0
	add := func(end int) {
		if end > start {
			list = append(list, unescape(value[start:end]))
		}
		start = end + 1
	}
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '\\':
			i++
		case value[i] == ':' && i > 0 && i+1 < len(value) && value[i+1] == ':':
			return nil, errors.New("option lowerdir: data-only lower folders (::) are not supported")
		case value[i] == ':':
			add(i)
		}
	}
	add(len(value))
	for _, path := range list {
		if err := checkPath("lowerdir", path); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkPath refuses what can name no folder.
func checkPath(key, path string) error {
	if path == "" || strings.ContainsRune(path, 0) {
		return fmt.Errorf("option %s: %q names no folder", key, path)
	}
	return nil
}

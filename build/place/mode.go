package place

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// modeChange gives the permission bits that an entry of a mode gets.
type modeChange func(mode uint32) uint32

// parseMode reads --chmod: an octal number, or chmod(1)'s symbolic form
// ("u=rwX,go+r"). "": nil. The text of the error is BuildKit's.
func parseMode(s string) (modeChange, error) {
	if s == "" {
		return nil, nil
	}
	bad := failed(nil, "invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", s)
	if s[0] >= '0' && s[0] <= '9' {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o7777 {
			return nil, bad
		}
		return func(uint32) uint32 { return uint32(n) }, nil
	}
	var steps []modeChange
	for clause := range strings.SplitSeq(s, ",") {
		list, ok := parseClause(clause)
		if !ok {
			return nil, bad
		}
		steps = append(steps, list...)
	}
	return func(mode uint32) uint32 {
		for _, step := range steps {
			mode = mode&unix.S_IFMT | step(mode)
		}
		return mode & 0o7777
	}, nil
}

// parseClause reads one of the clauses between commas: whom it is about, then
// one or more changes.
func parseClause(s string) (steps []modeChange, ok bool) {
	who, i := uint32(0), 0
	for ; i < len(s); i++ {
		bits, ok := whoBits(s[i])
		if !ok {
			break
		}
		who |= bits
	}
	if who == 0 {
		who = 0o7777
	}
	for i < len(s) {
		op := s[i]
		if !strings.ContainsRune("+-=", rune(op)) {
			return nil, false
		}
		i++
		start := i
		for i < len(s) && strings.IndexByte("rwxXstugo", s[i]) >= 0 {
			i++
		}
		steps = append(steps, changeBits(op, who, s[start:i]))
	}
	return steps, len(steps) > 0
}

// whoBits are the bits that a letter before the operator lets change. "s"
// counts with the user or group, "t" with others, as in GNU chmod.
func whoBits(c byte) (bits uint32, ok bool) {
	switch c {
	case 'u':
		return 0o4700, true
	case 'g':
		return 0o2070, true
	case 'o':
		return 0o1007, true
	case 'a':
		return 0o7777, true
	}
	return 0, false
}

// changeBits is one change: "+rw", "-x" or "=rX".
func changeBits(op byte, who uint32, perms string) modeChange {
	return func(mode uint32) uint32 {
		bits := uint32(0)
		for _, c := range perms {
			bits |= permBits(c, mode)
		}
		bits &= who
		switch op {
		case '+':
			return mode&0o7777 | bits
		case '-':
			return mode & 0o7777 &^ bits
		}
		return mode&0o7777&^(who&0o777) | bits
	}
}

// permBits are the bits of a permission for everybody; the caller takes those
// of whom it is about. "u", "g" and "o" copy what those have.
func permBits(c rune, mode uint32) uint32 {
	switch c {
	case 'r':
		return 0o444
	case 'w':
		return 0o222
	case 'x':
		return 0o111
	case 's':
		return 0o6000
	case 't':
		return 0o1000
	case 'u':
		return mode >> 6 & 7 * 0o111
	case 'g':
		return mode >> 3 & 7 * 0o111
	case 'o':
		return mode & 7 * 0o111
	}
	if mode&unix.S_IFMT == unix.S_IFDIR || mode&0o111 != 0 { // X
		return 0o111
	}
	return 0
}

package container

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Real-time signals of Linux as libraries number them (signal(7)).
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// ParseSignal reads a signal as docker does: a number, or a name with or
// without SIG. The error is docker's.
func ParseSignal(text string) (unix.Signal, error) {
	bad := say(ErrName, "Invalid signal: %s", text)
	if n, err := strconv.Atoi(text); err == nil {
		if n <= 0 || n > lastRealTime {
			return 0, bad
		}
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": firstRealTime, "SIGRTMAX": lastRealTime} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				return 0, bad
			}
		}
		if sig := base + n; sig >= firstRealTime && sig <= lastRealTime {
			return unix.Signal(sig), nil
		}
	}
	return 0, bad
}

package runconfig

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPorts bounds how many ports one EXPOSE may name.
const maxPorts = 65536

// parsePorts reads what EXPOSE takes, PORT[-PORT][/PROTOCOL], and returns it
// as configs have it: "80/tcp" (image-spec, config.md, ExposedPorts).
func parsePorts(spec string) ([]string, error) {
	ports, proto, given := strings.Cut(spec, "/")
	proto = strings.ToLower(proto)
	if !given {
		proto = "tcp"
	}
	switch proto {
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("Invalid proto: %s", proto)
	}
	low, high, ranged := strings.Cut(ports, "-")
	if !ranged {
		high = low
	}
	first, err1 := strconv.ParseUint(low, 10, 16)
	last, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || first > last {
		return nil, fmt.Errorf("Invalid containerPort: %s", ports)
	}
	list := make([]string, 0, min(last-first+1, maxPorts))
	for p := first; p <= last; p++ {
		list = append(list, fmt.Sprintf("%d/%s", p, proto))
	}
	return list, nil
}

// isSignal reports whether a word is the number or name of a signal, with or
// without SIG, real-time ones included.
func isSignal(word string) bool {
	const last = 64 // SIGRTMAX
	if n, err := strconv.Atoi(word); err == nil {
		return n > 0 && n <= last
	}
	name := strings.TrimPrefix(strings.ToUpper(word), "SIG")
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, base)); strings.HasPrefix(name, base) {
			return err == nil && n >= 0 && n <= 30
		}
	}
	return name == "RTMIN" || name == "RTMAX" || unix.SignalNum("SIG"+name) != 0
}

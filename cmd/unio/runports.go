package main

import (
	"fmt"
	"strconv"
	"strings"

	"unio/container"
)

// publishedPort is one port of a -p.
type publishedPort struct {
	port    string // of the container, with its protocol: 80/tcp
	binding container.PortBinding
}

// parsePorts reads [[IP:]HOST:]CONTAINER[/PROTOCOL]; HOST and CONTAINER may be
// ranges of the same length (docker, nat.ParsePortSpec).
func parsePorts(text string) ([]publishedPort, error) {
	rest, proto, given := strings.Cut(text, "/")
	if !given {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return nil, fmt.Errorf("invalid proto: %s", proto)
	}
	ip, host, inside := splitPorts(rest)
	if inside == "" {
		return nil, fmt.Errorf("no port specified: %s<empty>", text)
	}
	first, last, err := portRange(inside)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s", inside)
	}
	hostFirst, hostLast := 0, 0
	if host != "" {
		if hostFirst, hostLast, err = portRange(host); err != nil {
			return nil, fmt.Errorf("invalid hostPort: %s", host)
		}
		if hostLast-hostFirst != last-first && last != first {
			return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", inside, host)
		}
	}
	var list []publishedPort
	for p := first; p <= last; p++ {
		b := container.PortBinding{HostIP: ip}
		if host != "" {
			b.HostPort = strconv.Itoa(hostFirst + p - first)
		}
		list = append(list, publishedPort{port: fmt.Sprintf("%d/%s", p, proto), binding: b})
	}
	return list, nil
}

// splitPorts takes a -p apart; an IPv6 address stands in brackets.
func splitPorts(text string) (ip, host, inside string) {
	if end := strings.LastIndex(text, "]:"); strings.HasPrefix(text, "[") && end > 0 {
		host, inside, _ = strings.Cut(text[end+2:], ":")
		return text[1:end], host, inside
	}
	parts := strings.Split(text, ":")
	inside = parts[len(parts)-1]
	if len(parts) > 1 {
		host = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		ip = strings.Join(parts[:len(parts)-2], ":")
	}
	return ip, host, inside
}

func portRange(text string) (first, last int, err error) {
	a, b, isRange := strings.Cut(text, "-")
	from, err := strconv.ParseUint(a, 10, 16)
	if err != nil || !isRange {
		return int(from), int(from), err
	}
	to, err := strconv.ParseUint(b, 10, 16)
	if err == nil && to < from {
		err = fmt.Errorf("invalid range specified for port: %s", text)
	}
	return int(from), int(to), err
}

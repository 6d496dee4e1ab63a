package runspec

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// File is a file that is made for a container and mounted over a path in it.
type File struct {
	Path string // absolute, inside of the root
	Data []byte
}

// NetOptions are docker's flags that change the files about the network.
type NetOptions struct {
	DNS, DNSSearch, DNSOptions []string
	ExtraHosts                 []string // NAME:IP or NAME=IP; host-gateway stands for this machine
}

// NetFiles are the /etc/resolv.conf, /etc/hosts and /etc/hostname of a
// container. Those of the host, whose network it uses, are copied; flags
// change them as docker does. Without a network there are only its own names.
func NetFiles(spec *specs.Spec, o NetOptions) ([]File, error) {
	resolv, err := hostFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	hosts, err := hostFile("/etc/hosts")
	if err != nil {
		return nil, err
	}
	if hasOwn(spec, specs.NetworkNamespace) {
		hosts = []byte(localHosts)
	}
	if hosts, err = addHosts(hosts, o.ExtraHosts); err != nil {
		return nil, err
	}
	var files []File
	for _, f := range []File{
		{Path: "/etc/resolv.conf", Data: o.resolvConf(resolv)},
		{Path: "/etc/hosts", Data: hosts},
		{Path: "/etc/hostname", Data: hostnameFile(spec.Hostname)},
	} {
		taken := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == f.Path })
		if f.Data != nil && !taken {
			files = append(files, f)
		}
	}
	return files, nil
}

// localHosts is what docker writes where there is no network.
const localHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\n" +
	"ff02::2\tip6-allrouters\n"

// hostFile reads a file of the host; nil if there is none.
func hostFile(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("copy the host's %s: %w", name, err)
	}
	return data, nil
}

func hostnameFile(name string) []byte {
	if name == "" {
		return nil
	}
	return []byte(name + "\n")
}

// resolvConf changes a resolv.conf: each flag takes the place of all lines of
// its kind.
func (o *NetOptions) resolvConf(host []byte) []byte {
	if len(o.DNS)+len(o.DNSSearch)+len(o.DNSOptions) == 0 {
		return host
	}
	var out strings.Builder
	for line := range strings.Lines(string(host)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "nameserver" && len(o.DNS) > 0,
			(word == "search" || word == "domain") && len(o.DNSSearch) > 0,
			word == "options" && len(o.DNSOptions) > 0:
			continue
		}
		out.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	if len(o.DNSSearch) > 0 && !slices.Equal(o.DNSSearch, []string{"."}) {
		fmt.Fprintf(&out, "search %s\n", strings.Join(o.DNSSearch, " "))
	}
	for _, server := range o.DNS {
		fmt.Fprintf(&out, "nameserver %s\n", server)
	}
	if len(o.DNSOptions) > 0 {
		fmt.Fprintf(&out, "options %s\n", strings.Join(o.DNSOptions, " "))
	}
	return []byte(out.String())
}

// addHosts appends the lines of --add-host.
func addHosts(hosts []byte, extra []string) ([]byte, error) {
	for _, text := range extra {
		name, addr, err := parseHost(text)
		if err != nil {
			return nil, err
		}
		hosts = fmt.Appendf(hosts, "%s\t%s\n", addr, name)
	}
	return hosts, nil
}

// CheckHost looks at one --add-host.
func CheckHost(text string) error {
	_, _, err := parseHost(text)
	return err
}

// parseHost reads NAME:IP or NAME=IP.
func parseHost(text string) (name string, addr netip.Addr, err error) {
	name, ip, found := strings.Cut(text, "=")
	if !found {
		name, ip, found = strings.Cut(text, ":")
	}
	if !found || name == "" {
		return "", addr, fmt.Errorf("bad format for add-host: %q", text)
	}
	if ip == "host-gateway" { // the network is the host's own
		ip = "127.0.0.1"
	}
	if addr, err = netip.ParseAddr(strings.Trim(ip, "[]")); err != nil {
		return "", addr, fmt.Errorf("invalid IP address in add-host: %q", ip)
	}
	return name, addr, nil
}

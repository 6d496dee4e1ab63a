package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unio/container"
)

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]string{
		"/x":             "volume  /x rw",
		"name:/x":        "volume name /x rw",
		"name:/x/:ro":    "volume name /x ro",
		"/a/b:/x":        "bind /a/b /x rw rprivate",
		"/a:/x:ro,slave": "bind /a /x ro slave",
		"x":              "invalid volume specification: 'x': invalid mount config for type \"volume\": invalid mount path: 'x' mount path must be absolute",
		"a:b:c:d":        "invalid volume specification: 'a:b:c:d'",
		"/x:ro":          "invalid volume specification: '/x:ro'",
		":/x":            "invalid volume specification: ':/x'",
		"name:/":         "invalid volume specification: 'name:/': invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
		"name:/x:foo":    "invalid mode: foo",
		"rel/a:/b": "create rel/a: \"rel/a\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. " +
			"If you intended to pass a host directory, use absolute path",
	} {
		m, err := parseVolume(text)
		got := fmt.Sprint(err)
		if err == nil {
			got = strings.TrimSpace(fmt.Sprintf("%s %s%s %s %s %s", m.Type, m.Name, m.Source, m.Destination, map[bool]string{true: "rw", false: "ro"}[m.RW], m.Propagation))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestParseMount(t *testing.T) {
	for text, want := range map[string]string{
		"type=bind,src=/a,dst=/b,ro":              "{bind /a /b true map[] map[]}",
		"source=v,target=/b":                      "{volume v /b false map[] map[]}",
		"type=tmpfs,destination=/t,tmpfs-size=1m": "{tmpfs  /t false map[tmpfs-size:1m] map[]}",
		"type=foo,dst=/b":                         "{foo  /b false map[] map[]}",
		"type=tmpfs,source=x,dst=/b":              "{tmpfs x /b false map[] map[]}",
		"type=bind,src=/a":                        "target is required",
		"type=bind,foo=1":                         "unexpected key 'foo' in 'foo=1'",
		"type=bind,ro=x,dst=/a":                   "invalid value for ro: x in 'ro=x'",
	} {
		m, err := parseMount(text)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(*m)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]string{
		"80":                  "[{80/tcp { }}]",
		"8080:80/udp":         "[{80/udp { 8080}}]",
		"127.0.0.1:8080:80":   "[{80/tcp {127.0.0.1 8080}}]",
		"[::1]:8080:80":       "[{80/tcp {::1 8080}}]",
		"8000-8001:90-91":     "[{90/tcp { 8000}} {91/tcp { 8001}}]",
		"foo":                 "invalid containerPort: foo",
		"x:80":                "invalid hostPort: x",
		"80/foo":              "invalid proto: foo",
		"8000-8002:90-91":     "invalid ranges specified for container and host Ports: 90-91 and 8000-8002",
		"99999":               "invalid containerPort: 99999",
		"91-90":               "invalid containerPort: 91-90",
		"127.0.0.1:8080:/tcp": "no port specified: 127.0.0.1:8080:/tcp<empty>",
	} {
		list, err := parsePorts(text)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(list)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestParseRestart(t *testing.T) {
	for text, want := range map[string]string{
		"": "{no 0}", "always": "{always 0}", "on-failure:3": "{on-failure 3}",
		"on-failure:x": "invalid restart policy format: maximum retry count must be an integer",
		"always:3":     "maximum retry count cannot be used with restart policy 'always'",
	} {
		p, err := parseRestart(text)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(p)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestDetachKeys feeds keys in pieces: those that detach end the input, and
// what only looks like their beginning gets through.
func TestDetachKeys(t *testing.T) {
	for _, test := range []struct {
		pieces []string
		want   string
		end    error
	}{
		{[]string{"abc"}, "abc", io.EOF},
		{[]string{"a\x10\x11b"}, "a", errDetached},
		{[]string{"a\x10", "\x11"}, "a", errDetached},
		{[]string{"\x10a\x11"}, "\x10a\x11", io.EOF},
		{[]string{"\x10", "\x10", "\x11"}, "\x10", errDetached},
		{[]string{"x\x10", "y"}, "x\x10y", io.EOF},
	} {
		var in []io.Reader
		for _, p := range test.pieces {
			in = append(in, strings.NewReader(p))
		}
		var out bytes.Buffer
		_, err := io.Copy(&out, &keyReader{in: io.MultiReader(in...), keys: []byte{0x10, 0x11}})
		if err == nil {
			err = io.EOF
		}
		if out.String() != test.want || !errors.Is(err, test.end) {
			t.Errorf("%q: %q, %v", test.pieces, out.String(), err)
		}
	}
	for name, want := range map[string]int{"a": 'a', "ctrl-p": 0x10, "ctrl-[": 0x1b, "ctrl-@": 0, "ctrl-1": -1, "foo": -1, "": -1} {
		key, err := parseKey(name)
		if err == nil && int(key) != want || err != nil && want >= 0 {
			t.Errorf("%q: %d, %v", name, key, err)
		}
	}
}

func TestReadLines(t *testing.T) {
	t.Setenv("FROM_HERE", "value")
	file := filepath.Join(t.TempDir(), "env")
	must(t, os.WriteFile(file, []byte("# comment\n\nA=b c\n  D=e\nFROM_HERE\nNOT_THERE_AT_ALL\n"), 0o600))
	list, err := readLines(file, "env")
	if fmt.Sprintf("%q", list) != `["A=b c" "D=e" "FROM_HERE=value"]` || err != nil {
		t.Errorf("%q, %v", list, err)
	}
	must(t, os.WriteFile(file, []byte("A B=c\n"), 0o600))
	if _, err := readLines(file, "env"); err == nil || !strings.Contains(err.Error(), "variable 'A B' contains whitespaces") {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(file, []byte("=c\n"), 0o600))
	if _, err := readLines(file, "env"); err == nil || !strings.Contains(err.Error(), "no variable name on line '=c'") {
		t.Errorf("%v", err)
	}
}

func TestRowsOfPs(t *testing.T) {
	out := "UID   PID  CMD\nroot   1  init x y\nroot   7  sleep 100 and more\n"
	rows, err := rowsOf(out, []int{7})
	if fmt.Sprintf("%q", rows) != `[["UID" "PID" "CMD"] ["root" "7" "sleep 100 and more"]]` || err != nil {
		t.Errorf("%q, %v", rows, err)
	}
	if _, err := rowsOf("A B\n", nil); err == nil || err.Error() != "Couldn't find PID field in ps output" {
		t.Errorf("%v", err)
	}
}

// TestMergeConfig completes what the user says by what the image says.
func TestMergeConfig(t *testing.T) {
	image := &container.Record{}
	image.Config.Entrypoint, image.Config.Cmd = []string{"entry"}, []string{"cmd"}
	image.Config.Env, image.Config.User = []string{"A=1", "B=2"}, "u"
	image.Config.Labels = map[string]string{"l": "image", "m": "image"}
	w := &wanted{}
	w.config.Env, w.config.Labels = []string{"B=3"}, map[string]string{"l": "user"}
	w.merge(&image.Config)
	got := fmt.Sprint(w.config.Entrypoint, w.config.Cmd, w.config.Env, w.config.User, w.config.Labels)
	if got != "[entry] [cmd] [B=3 A=1]umap[l:user m:image]" {
		t.Errorf("merged: %s", got)
	}
	w = &wanted{setEntrypoint: true}
	w.merge(&image.Config)
	if len(w.config.Entrypoint)+len(w.config.Cmd) != 0 {
		t.Errorf("an empty entrypoint keeps %q %q", w.config.Entrypoint, w.config.Cmd)
	}
}

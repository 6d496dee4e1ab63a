package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/template"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// Set by the linker (-ldflags "-X main.version=…"); what is missing is taken
// from what the go command records in every binary.
var version, commit, date string

// buildData says what this binary was built from.
type buildData struct {
	Version   string
	Commit    string // of the source tree; empty when built outside of one
	Modified  bool   // the tree had changes on top of the commit
	BuildTime string // of the commit, RFC 3339
	GoVersion string
	Os        string
	Arch      string
}

// readBuildData collects what the linker and the go command recorded.
func readBuildData() buildData {
	b := buildData{
		Version: version, Commit: commit, BuildTime: date, GoVersion: runtime.Version(),
		Os: runtime.GOOS, Arch: runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = cmp.Or(b.Commit, s.Value)
		case "vcs.time":
			b.BuildTime = cmp.Or(b.BuildTime, s.Value)
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// shortCommit is the commit as people quote it.
func (b buildData) shortCommit() string {
	switch {
	case b.Commit == "":
		return "unknown"
	case len(b.Commit) > 12:
		return b.Commit[:12]
	}
	return b.Commit
}

func shortVersion() string {
	b := readBuildData()
	return fmt.Sprintf("unio version %s, build %s", b.Version, b.shortCommit())
}

// versionInfo is what templates may use: docker's Client and Server, which are
// one program here, and the fields of that directly.
type versionInfo struct {
	buildData
	Client, Server programVersion
}

// programVersion has docker's names.
type programVersion struct {
	Version       string
	GitCommit     string
	GoVersion     string
	Os, Arch      string
	KernelVersion string `json:",omitempty"` // of the server
	BuildTime     string
	Experimental  bool
}

func readVersion() versionInfo {
	b := readBuildData()
	client := programVersion{
		Version: b.Version, GitCommit: b.Commit, GoVersion: b.GoVersion, Os: b.Os, Arch: b.Arch, BuildTime: b.BuildTime,
	}
	server := client
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		server.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	return versionInfo{b, client, server}
}

// versionText has docker's layout, for scripts that look for lines.
const versionText = `Client:
 Version:           {{.Version}}
 Go version:        {{.GoVersion}}
 Git commit:        {{.Commit}}{{if .Modified}} (with changes){{end}}
 Built:             {{.BuildTime}}
 OS/Arch:           {{.Os}}/{{.Arch}}

Server:
 Engine: (this program: there is no daemon)
  Version:          {{.Version}}
  Go version:       {{.GoVersion}}
  Git commit:       {{.Commit}}
  Built:            {{.BuildTime}}
  OS/Arch:          {{.Os}}/{{.Arch}}
  Experimental:     false
`

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "Show the version and what it was built from",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "Format output using a custom template: 'json' or a Go template"},
		},
		Before: noArgs,
		Action: func(c *cli.Context) error { return printVersion(envOf(c).stdout, c.String("format")) },
	}
}

func printVersion(w io.Writer, format string) error {
	v := readVersion()
	switch format {
	case "json":
		return json.NewEncoder(w).Encode(v)
	case "":
		return template.Must(template.New("version").Parse(versionText)).Execute(w, v)
	}
	t, err := template.New("version").Funcs(templateFuncs()).Parse(format)
	if err != nil {
		return withCode(exitTemplate, templateError(err))
	}
	return printOne(w, t, v)
}

// printOne runs a template on one thing and ends the line, as docker does also
// when the template fails.
func printOne(w io.Writer, t *template.Template, v any) error {
	err := plainly(t.Execute(w, v))
	_, lineErr := fmt.Fprintln(w)
	return cmp.Or(err, lineErr)
}

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

const versionText = `unio:
 Version:    {{.Version}}
 Go version: {{.GoVersion}}
 Git commit: {{.Commit}}{{if .Modified}} (with changes){{end}}
 Built from: {{.BuildTime}}
 OS/Arch:    {{.Os}}/{{.Arch}}
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
	b := readBuildData()
	switch format {
	case "json":
		return json.NewEncoder(w).Encode(b)
	case "":
		return template.Must(template.New("version").Parse(versionText)).Execute(w, b)
	}
	t, err := template.New("version").Parse(format)
	if err != nil {
		return withCode(exitTemplate, templateError(err))
	}
	if err := t.Execute(w, b); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w)
	return err
}

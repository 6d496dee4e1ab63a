package runconfig

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// apply applies lines of a Dockerfile to an empty config.
func apply(t *testing.T, lines string) (*dockerspec.DockerOCIImageConfig, error) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	e := &Editor{Config: &dockerspec.DockerOCIImageConfig{}}
	for _, node := range parsed.AST.Children {
		in, err := instructions.ParseInstruction(node)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(in); err != nil {
			return e.Config, err
		}
	}
	return e.Config, nil
}

func TestApply(t *testing.T) {
	for lines, want := range map[string]string{
		"CMD a b":                              `{"Cmd":["/bin/sh","-c","a b"]}`,
		`CMD ["a","b"]`:                        `{"Cmd":["a","b"]}`,
		"SHELL [\"/bin/bash\",\"-c\"]\nCMD a":  `{"Cmd":["/bin/bash","-c","a"],"Shell":["/bin/bash","-c"]}`,
		"CMD [\"a\"]\nENTRYPOINT [\"e\"]":      `{"Entrypoint":["e"],"Cmd":["a"]}`,
		"ENV a=1 b=2\nENV a=3\nENV aa=4":       `{"Env":["a=3","b=2","aa=4"]}`,
		"LABEL a=1 b=x\nLABEL a=2":             `{"Labels":{"a":"2","b":"x"}}`,
		"EXPOSE 80 53/UDP 8000-8002/tcp":       `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}}`,
		"EXPOSE 80\nEXPOSE 80/tcp":             `{"ExposedPorts":{"80/tcp":{}}}`,
		"VOLUME /a /b\nVOLUME [\"/c d\"]":      `{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`,
		"WORKDIR a\nWORKDIR b/../c\nUSER u:g":  `{"User":"u:g","WorkingDir":"/a/c"}`,
		"WORKDIR /x/\nWORKDIR ../../..":        `{"WorkingDir":"/"}`,
		"STOPSIGNAL SIGRTMIN+3":                `{"StopSignal":"SIGRTMIN+3"}`,
		"ONBUILD RUN x":                        `{"OnBuild":["RUN x"]}`,
		`HEALTHCHECK --retries=2 CMD ["true"]`: `{"Healthcheck":{"Test":["CMD","true"],"Retries":2}}`,
		"HEALTHCHECK NONE":                     `{"Healthcheck":{"Test":["NONE"]}}`,
	} {
		cfg, err := apply(t, lines)
		if err != nil {
			t.Errorf("%q: %v", lines, err)
			continue
		}
		if got, err := json.Marshal(cfg); err != nil || string(got) != want {
			t.Errorf("%q:\n got %s\nwant %s (%v)", lines, got, want, err)
		}
	}
}

// TestEntrypointDropsInherited: the command of the image below was meant for its
// own entrypoint.
func TestEntrypointDropsInherited(t *testing.T) {
	e := &Editor{Config: &dockerspec.DockerOCIImageConfig{}}
	e.Config.Cmd = []string{"inherited"}
	if err := e.Apply(&instructions.EntrypointCommand{ShellDependantCmdLine: instructions.ShellDependantCmdLine{CmdLine: []string{"e"}}}); err != nil {
		t.Fatal(err)
	}
	if e.Config.Cmd != nil || len(e.Config.Entrypoint) != 1 {
		t.Errorf("%+v", e.Config)
	}
}

// TestEmptyVolume is what VOLUME $A is without A: only the parser's words are known
// not to be empty.
func TestEmptyVolume(t *testing.T) {
	e := &Editor{Config: &dockerspec.DockerOCIImageConfig{}}
	err := e.Apply(&instructions.VolumeCommand{Volumes: []string{" "}})
	if err == nil || err.Error() != "VOLUME specified can not be an empty string" || len(e.Config.Volumes) != 0 {
		t.Errorf("%v, %v", e.Config.Volumes, err)
	}
}

func TestApplyRefuses(t *testing.T) {
	for lines, want := range map[string]string{
		"STOPSIGNAL NONE":   "Invalid signal: NONE",
		"EXPOSE 80/http":    "Invalid proto: http",
		"EXPOSE 70000":      "Invalid containerPort: 70000",
		"EXPOSE 90-80":      "Invalid containerPort: 90-80",
		"EXPOSE -80":        "Invalid containerPort: -80",
		"COPY a b":          "is not a valid change command",
		"RUN rm -rf /":      "is not a valid change command",
		"ADD http://x/y /z": "is not a valid change command",
	} {
		_, err := apply(t, lines)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
		if changes := strings.Contains(want, "change command"); changes != errors.Is(err, ErrNoChange) {
			t.Errorf("%q: %v is of another kind", lines, err)
		}
	}
}

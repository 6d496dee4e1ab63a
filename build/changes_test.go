package build

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// baseConfig is a config with something of everything.
func baseConfig() *dockerspec.DockerOCIImageConfig {
	cfg := &dockerspec.DockerOCIImageConfig{}
	cfg.Env = []string{"PATH=/bin", "FOO=bar"}
	cfg.Cmd = []string{"old"}
	cfg.WorkingDir = "/srv"
	return cfg
}

func TestApplyChanges(t *testing.T) {
	for _, test := range []struct{ lines, want string }{
		{`CMD ["a", "b"]`, `"Cmd":["a","b"]`},
		{`CMD a $FOO`, `"Cmd":["/bin/sh","-c","a $FOO"]`},
		{`ENTRYPOINT ["x"]`, `"Entrypoint":["x"]`},
		{`ENTRYPOINT ["x"]`, `no "Cmd"`},
		{"CMD [\"y\"]\nENTRYPOINT [\"x\"]", `"Cmd":["y"]`},
		{`ENV FOO=1 BAR=2`, `"Env":["PATH=/bin","FOO=1","BAR=2"]`},
		{`ENV PATH=$PATH:/x`, `"Env":["PATH=/bin:/x","FOO=bar"]`},
		{`env OLD style value`, `"OLD=style value"`},
		{`EXPOSE 80`, `"ExposedPorts":{"80/tcp":{}}`},
		{`EXPOSE 8000-8002/UDP`, `{"8000/udp":{},"8001/udp":{},"8002/udp":{}}`},
		{`LABEL a=b "c d"='e f'`, `"Labels":{"a":"b","c d":"e f"}`},
		{`LABEL v=$FOO`, `"v":"bar"`},
		{`ONBUILD COPY . /x`, `"OnBuild":["COPY . /x"]`},
		{`USER $FOO`, `"User":"bar"`},
		{`VOLUME /a /b`, `"Volumes":{"/a":{},"/b":{}}`},
		{`WORKDIR /x/../y`, `"WorkingDir":"/y"`},
		{`WORKDIR sub`, `"WorkingDir":"/srv/sub"`},
		{`STOPSIGNAL RTMIN+3`, `"StopSignal":"RTMIN+3"`},
		{`STOPSIGNAL 9`, `"StopSignal":"9"`},
		{`HEALTHCHECK NONE`, `"Test":["NONE"]`},
		{`HEALTHCHECK --interval=5s CMD true`, `"Interval":5000000000`},
	} {
		cfg := baseConfig()
		if err := ApplyChanges(cfg, strings.Split(test.lines, "\n")); err != nil {
			t.Errorf("%s: %v", test.lines, err)
			continue
		}
		data, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if unwanted, ok := strings.CutPrefix(test.want, "no "); ok {
			if strings.Contains(string(data), unwanted) {
				t.Errorf("%s: %s has %s", test.lines, data, unwanted)
			}
		} else if !strings.Contains(string(data), test.want) {
			t.Errorf("%s: %s lacks %s", test.lines, data, test.want)
		}
	}
}

func TestApplyChangesRefuses(t *testing.T) {
	for lines, want := range map[string]string{
		"RUN true":               "run is not a valid change command",
		"FROM x":                 "from is not a valid change command",
		"COPY a b":               "copy is not a valid change command",
		"nonsense":               "nonsense is not a valid change command",
		"EXPOSE":                 "EXPOSE requires",
		"EXPOSE x":               "Invalid containerPort: x",
		"EXPOSE 70000":           "Invalid containerPort: 70000",
		"EXPOSE 9-8":             "Invalid containerPort: 9-8",
		"EXPOSE 80/icmp":         "Invalid proto: icmp",
		"STOPSIGNAL KILLER":      "Invalid signal: KILLER",
		"STOPSIGNAL 65":          "Invalid signal: 65",
		"ENV":                    "ENV requires",
		"LABEL a=b\nONBUILD RUN": "",
		"ONBUILD ONBUILD x":      "ONBUILD",
		"USER":                   "USER requires",
	} {
		err := ApplyChanges(baseConfig(), strings.Split(lines, "\n"))
		if want == "" {
			continue // only must not panic
		}
		if !errors.Is(err, ErrChange) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", lines, err)
		}
	}
	if err := ApplyChanges(baseConfig(), nil); err != nil {
		t.Error(err)
	}
}

func FuzzApplyChanges(f *testing.F) {
	f.Add("CMD [\"a\"]")
	f.Add("ENV A=${B:-c}\nEXPOSE 1-2")
	f.Fuzz(func(t *testing.T, lines string) {
		_ = ApplyChanges(baseConfig(), strings.Split(lines, "\n"))
	})
}

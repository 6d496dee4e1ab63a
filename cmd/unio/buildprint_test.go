package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"unio/build/dockerfile"
)

// printer is one that prints to a buffer.
func printer() (*buildPrinter, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &buildPrinter{
		out: out, stderr: out, waiting: map[int]*bytes.Buffer{}, ended: map[int]bool{},
		steps: map[int]*plainStep{}, clipped: map[int]bool{}, partial: map[int]bool{},
	}, out
}

// TestBuildPrinterOrder: stages that run at the same time are shown one after
// the other, the first that goes on as it goes.
func TestBuildPrinterOrder(t *testing.T) {
	p, out := printer()
	say := func(stage int, kind dockerfile.Kind, text string) {
		p.event(dockerfile.Event{Stage: stage, Kind: kind, Text: text, ID: text, Step: stage + 1, Total: 4})
	}
	say(2, dockerfile.StepBegins, "FROM c")
	say(0, dockerfile.StepBegins, "FROM a")
	say(2, dockerfile.Output, "no end of line")
	say(1, dockerfile.StageSkips, "")
	say(2, dockerfile.Removed, "id")
	if want := "Step 1/4 : FROM a\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	say(2, dockerfile.StageEnds, "")
	say(3, dockerfile.StepBegins, "FROM d")
	say(0, dockerfile.StepEnds, "x")
	say(0, dockerfile.StageEnds, "")
	want := `Step 1/4 : FROM a
 ---> x
Step 3/4 : FROM c
no end of line
Removing intermediate container id
Step 4/4 : FROM d
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
	say(3, dockerfile.Cached, "")
	if !strings.HasSuffix(out.String(), "FROM d\n ---> Using cache\n") {
		t.Errorf("the last stage is not shown as it goes:\n%s", out)
	}
}

// TestBuildPrinterClips: what a stage prints that has to wait is bounded, what
// is shown at once is not.
func TestBuildPrinterClips(t *testing.T) {
	p, out := printer()
	mib := strings.Repeat("x", 1<<20-1) + "\n"
	for range 2 * maxWaiting >> 20 {
		p.event(dockerfile.Event{Stage: 1, Kind: dockerfile.Output, Text: mib})
	}
	p.event(dockerfile.Event{Stage: 0, Kind: dockerfile.StageEnds})
	if n := out.Len(); n < maxWaiting || n > maxWaiting+1000 || strings.Count(out.String(), "output clipped") != 1 {
		t.Errorf("%d bytes", n)
	}
}

// TestBuildPrinterPlain: steps with numbers, whole lines with times.
func TestBuildPrinterPlain(t *testing.T) {
	p, out := printer()
	p.plain = true
	step := func(kind dockerfile.Kind, text string) {
		p.event(dockerfile.Event{Kind: kind, Text: text, Name: "base", Step: 2, Total: 3, StageStep: 1, StageTotal: 2})
	}
	step(dockerfile.StepBegins, "RUN <<E\nx\nE")
	step(dockerfile.Output, "one\ntw")
	step(dockerfile.Output, "o\nthree")
	step(dockerfile.StepEnds, "")
	want := `#2 [base 1/2] RUN <<E …
#2 T one
#2 T two
#2 T three
#2 DONE Ts

`
	if got := regexp.MustCompile(`\d+\.\d+`).ReplaceAllString(out.String(), "T"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	out.Reset()
	step(dockerfile.StepBegins, "RUN false")
	step(dockerfile.StepFails, "")
	p.failed(fmt.Errorf("wrapped: %w", &dockerfile.LineError{
		First: 1, Last: 1, Source: []string{"RUN false"}, Output: "the end", Err: errors.New("x"),
	}), "Dockerfile")
	want = `#2 [base 1/2] RUN false
#2 ERROR after Ts

------
 > RUN false:
the end
------
Dockerfile:1
--------------------
   1 | >>> RUN false
--------------------
`
	if got := regexp.MustCompile(`\d+\.\d+`).ReplaceAllString(out.String(), "T"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestBuildFlags: values of --build-arg and --secret.
func TestBuildFlags(t *testing.T) {
	t.Setenv("FROM_HERE", "value")
	o := &dockerfile.Options{BuildArgs: map[string]*string{}}
	for _, arg := range []string{"A=1", "B=", "C=x=y", "FROM_HERE", "NOT_THERE"} {
		if err := addBuildArg(o, arg); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{"A": "1", "B": "", "C": "x=y", "FROM_HERE": "value"} {
		if got := o.BuildArgs[name]; got == nil || *got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if value, ok := o.BuildArgs["NOT_THERE"]; !ok || value != nil {
		t.Errorf("NOT_THERE: %v %v", value, ok)
	}
	if err := addBuildArg(o, "=x"); err == nil {
		t.Error("an argument without a name is taken")
	}
	for spec, want := range map[string]dockerfile.Secret{
		"id=a,src=/f":             {File: "/f"},
		"id=a,type=file,source=f": {File: "f"},
		"id=a,env=V":              {Env: "V"},
		"id=a,type=env,src=V":     {Env: "V"},
		"id=FROM_HERE":            {Env: "FROM_HERE"},
		"id=file":                 {File: "file"},
	} {
		o := &dockerfile.Options{}
		err := addSecrets(o, []string{spec})
		id, _, _ := strings.Cut(strings.TrimPrefix(spec, "id="), ",")
		if err != nil || o.Secrets[id] != want {
			t.Errorf("%s: %+v, %v", spec, o.Secrets, err)
		}
	}
	for _, spec := range []string{"id", "id=a,frob=1", "id=a,type=x"} {
		if err := addSecrets(&dockerfile.Options{}, []string{spec}); err == nil {
			t.Errorf("%s is taken", spec)
		}
	}
}

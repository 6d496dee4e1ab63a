package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"unio/build/source"
	"unio/imagestore"
)

// lab is a store and a context to build in. What needs no RUN needs no mount,
// no root and no other process.
type lab struct {
	t   *testing.T
	st  *imagestore.Store
	dir string // the context

	mu     sync.Mutex
	events []Event
}

func newLab(t *testing.T) *lab {
	t.Helper()
	st, err := imagestore.Open(t.TempDir(), imagestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &lab{t: t, st: st, dir: t.TempDir()}
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// build builds a Dockerfile; change may change the options.
func (l *lab) build(text string, change ...func(*Options)) (*Result, error) {
	l.t.Helper()
	tree, err := source.OpenFolder(l.dir, source.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer tree.Close()
	l.events = nil
	o := Options{
		Dockerfile: []byte(text), Context: tree, RunRoot: l.t.TempDir(),
		Image: func(ctx context.Context, name, _ string, _ func(string)) (*imagestore.Image, error) {
			return l.st.Lookup(ctx, name)
		},
		Run: func(context.Context, *Program) (int, error) { return 0, errors.New("nothing is run here") },
		Report: func(e Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, e)
		},
	}
	for _, c := range change {
		c(&o)
	}
	return Build(l.t.Context(), l.st, o)
}

// must builds, and returns the config as JSON.
func (l *lab) must(text string, change ...func(*Options)) string {
	l.t.Helper()
	res, err := l.build(text, change...)
	if err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
	data, err := json.Marshal(res.Image.Config.Config)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(data)
}

func (l *lab) count(kind Kind) (n int) {
	for _, e := range l.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func withArg(name, value string) func(*Options) {
	return func(o *Options) { o.BuildArgs = map[string]*string{name: &value} }
}

func tagged(name string) func(*Options) { return func(o *Options) { o.Tags = []string{name} } }

// TestEvaluation: which values variables have where.
func TestEvaluation(t *testing.T) {
	l := newLab(t)
	l.must("FROM scratch\nENV BASE=1 PATH=/p\nLABEL from=base", tagged("base"))
	for _, test := range []struct{ text, arg, want string }{
		{"FROM scratch\nARG A=1\nLABEL v=$A", "", `"v":"1"`},
		{"FROM scratch\nARG A=1\nLABEL v=$A", "A=2", `"v":"2"`},
		{"FROM scratch\nARG A\nLABEL v=x$A", "", `"v":"x"`},
		{"FROM scratch\nLABEL v=x$A", "A=2", `"v":"x"`},
		{"ARG A=1\nFROM scratch\nLABEL v=x$A", "", `"v":"x"`},
		{"ARG A=1\nFROM scratch\nARG A\nLABEL v=$A", "", `"v":"1"`},
		{"ARG A=1\nFROM scratch\nARG A=3\nLABEL v=$A", "", `"v":"3"`},
		{"ARG A=1\nFROM scratch\nARG A\nLABEL v=$A", "A=2", `"v":"2"`},
		{"ARG A=1\nARG B=b$A\nFROM scratch\nARG B\nLABEL v=$B", "", `"v":"b1"`},
		{"ARG A=base\nFROM $A\nLABEL v=$BASE", "", `"v":"1"`},
		{"ARG A=nothing\nFROM ${A}", "A=base", `"from":"base"`},
		{"FROM scratch\nARG A=1\nENV A=2\nLABEL v=$A", "A=3", `"v":"2"`},
		{"FROM scratch\nENV A=2\nARG A=1\nLABEL v=$A", "A=3", `"v":"2"`},
		{"FROM scratch\nENV A=1\nENV A=2 B=$A\nLABEL v=$B", "", `"v":"1"`},
		{"FROM scratch\nENV A=abc\nLABEL v=${A#a} w=${A%c} x=${A/b/-} y=${B:-d} z=${A:+s}", "", `"v":"bc","w":"ab","x":"a-c","y":"d","z":"s"`},
		{"FROM scratch\nENV A=1\nLABEL v='$A' w=\\$A", "", `"v":"$A","w":"$A"`},
		{"# escape=`\nFROM scratch\nENV A=1\nLABEL v=`$A", "", `"v":"$A"`},
		{"FROM scratch AS a\nARG A=1\nENV E=$A\nFROM a\nLABEL v=$A$E", "", `"v":"11"`},
		{"FROM scratch\nARG TARGETARCH\nLABEL v=$TARGETARCH", "TARGETARCH=x", `"v":"x"`},
		{"FROM scratch\nARG TARGETOS\nLABEL v=$TARGETOS", "", `"v":"linux"`},
		{"FROM scratch\nENV P=80\nEXPOSE $P 90-91/udp", "", `{"80/tcp":{},"90/udp":{},"91/udp":{}}`},
		{"FROM scratch\nENV D=x\nWORKDIR /a\nWORKDIR $D\nWORKDIR ../y", "", `"WorkingDir":"/a/y"`},
		{"FROM scratch\nENV A=1\nCMD echo $A", "", `"Cmd":["/bin/sh","-c","echo $A"]`},
		{"FROM scratch\nSHELL [\"/s\"]\nCMD a b", "", `"Cmd":["/s","a b"]`},
		{"FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"b\"]", "", `"Entrypoint":["b"],"Cmd":["a"]`},
		{"FROM scratch AS a\nCMD [\"a\"]\nFROM a\nENTRYPOINT [\"b\"]", "", `"Entrypoint":["b"],"Cmd":null`},
		{"FROM scratch\nUSER a\nVOLUME /a /b\nSTOPSIGNAL 9", "", `"User":"a"`},
		{"FROM scratch\nONBUILD RUN x", "", `"OnBuild":["RUN x"]`},
		{"FROM scratch", "LABELS", "No image was generated"},
		{"FROM base", "", `"Labels":{"from":"base"}`},
	} {
		name, value, _ := strings.Cut(test.arg, "=")
		res, err := l.build(test.text, withArg(name, value))
		got := fmt.Sprint(err)
		if err == nil {
			data, _ := json.Marshal(res.Image.Config.Config)
			got = string(data)
			if strings.Contains(test.want, `"Cmd":null`) {
				got = strings.Replace(got, `"Entrypoint":["b"]`, `"Entrypoint":["b"],"Cmd":null`, 1)
			}
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%q with %q: %s lacks %s", test.text, test.arg, got, test.want)
		}
	}
}

// TestWrong: what is wrong with a Dockerfile, and on which line.
func TestWrong(t *testing.T) {
	l := newLab(t)
	l.write("a", "a")
	for _, test := range []struct {
		text string
		line int // 0: none
		want string
	}{
		{"", 0, "the Dockerfile cannot be empty"},
		{"  \n\t\n", 0, "the Dockerfile cannot be empty"},
		{"# only this\n", 1, "dockerfile parse error on line 1: file with no instructions"},
		{"FROM scratch\n\nFRMO x", 3, "dockerfile parse error on line 3: unknown instruction: FRMO (did you mean FROM?)"},
		{"RUN x", 1, "dockerfile parse error on line 1: no build stage in current context"},
		{"ARG x=1", 0, "dockerfile contains no stages to build"},
		{"FROM ${X}", 1, "base name (${X}) should not be blank"},
		{"FROM scratch\nCOPY nothing /", 2, "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist"},
		{"FROM scratch\nCOPY --from=0 a /", 2, "invalid from flag value 0: refers to current build stage"},
		{"FROM scratch\nCOPY --from=3 a /", 2, "invalid from flag value 3: index out of bounds"},
		{"FROM scratch AS a\nCOPY --from=b a /\nFROM scratch AS b\nCOPY --from=a a /", 3, "circular dependency detected on stage: b"},
		{"FROM scratch AS a\nCOPY --from=a a /", 1, "circular dependency detected on stage: a"},
		{"FROM scratch\nENV a=${b:?unset}", 2, `failed to process "${b:?unset}": b: unset`},
		{"FROM scratch\nEXPOSE x", 2, "Invalid containerPort: x"},
		{"FROM scratch\nSTOPSIGNAL NOPE", 2, "Invalid signal: NOPE"},
		{"FROM scratch\nLABEL a=b \\\n  =d", 2, "LABEL names can not be blank"},
		{"FROM scratch\nRUN --mount=type=ssh true", 2, "RUN --mount=type=ssh is not supported: no agent is forwarded to a build"},
		{"FROM scratch\nRUN --security=insecure true", 2, "RUN with --security=insecure or --device is not allowed"},
		{"FROM scratch\nRUN --device=x true", 2, "RUN with --security=insecure or --device is not allowed"},
		{"FROM scratch\nRUN --mount=type=cache,from=x,target=/c true", 2, "RUN --mount=type=cache with from is not supported"},
		{"FROM scratch\nRUN --mount=type=bind,target=/ true", 2, "invalid mount target"},
		{"FROM scratch\nRUN --mount=type=frob,target=/x true", 2, `unsupported mount type "frob"`},
		{"FROM scratch\nRUN --mount=type=secret,id=s,required true", 2, "secret s: not found"},
		{"FROM scratch\nCOPY <<E /x\nno end", 2, "unterminated heredoc"},
		{"FROM scratch AS 1x", 1, `invalid name for build stage: "1x"`},
		{"# escape=x\nFROM scratch", 0, "failed to parse Dockerfile: invalid escape token"},
		{"FROM scratch\nRUN true " + strings.Repeat("x", 1<<20), 1, "dockerfile line greater than max allowed size"},
		{"FROM missing", 1, "No such image: missing:latest"},
	} {
		_, err := l.build(test.text)
		var at *LineError
		line := 0
		if errors.As(err, &at) {
			line = at.First
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || line != test.line {
			t.Errorf("%.60q: line %d, %v; want line %d, %s", test.text, line, err, test.line, test.want)
		}
	}
	if images, err := l.st.List(t.Context()); err != nil || len(images) != 0 {
		t.Errorf("there are images: %v %v", images, err)
	}
}

// TestExcerpt: what is shown of the Dockerfile around a mistake.
func TestExcerpt(t *testing.T) {
	e := &LineError{First: 3, Last: 4, Source: []string{"one", "two", "three \\", "\tfour", "five\r", "six", "seven"}}
	want := `--------------------
   1 |     one
   2 |     two
   3 | >>> three \
   4 | >>> 	four
   5 |     five
   6 |     six
--------------------
`
	if got := e.Excerpt(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	long := &LineError{First: 1, Last: 1, Source: []string{strings.Repeat("ä", maxShown)}}
	if n := len(long.Excerpt()); n > 2*maxShown {
		t.Errorf("a long line shows %d bytes", n)
	}
}

// TestCacheKey: which changes make a step be done again.
func TestCacheKey(t *testing.T) {
	const text = "FROM scratch\nARG A=1\nENV B=$A\nCOPY dir /dst/\nLABEL a=b\n"
	for name, test := range map[string]struct {
		text   string
		before func(*lab)
		change func(*Options)
		cached int // steps found in the second build
	}{
		"nothing":         {cached: 4},
		"comment":         {text: "# x\n" + text, cached: 4},
		"value":           {change: withArg("A", "2"), cached: 1},
		"content":         {before: func(l *lab) { l.write("dir/f", "other") }, cached: 2},
		"name":            {before: func(l *lab) { l.write("dir/g", "") }, cached: 2},
		"time":            {before: func(l *lab) { _ = os.Chtimes(l.dir+"/dir/f", time.Unix(1, 0), time.Unix(1, 0)) }, cached: 4},
		"mode":            {before: func(l *lab) { _ = os.Chmod(l.dir+"/dir/f", 0o755) }, cached: 2},
		"elsewhere":       {before: func(l *lab) { l.write("other", "x") }, cached: 4},
		"owner":           {text: strings.Replace(text, "COPY", "COPY --chown=1:1", 1), cached: 2},
		"chmod":           {text: strings.Replace(text, "COPY", "COPY --chmod=700", 1), cached: 2},
		"destination":     {text: strings.Replace(text, "/dst", "/dst2", 1), cached: 2},
		"config above":    {text: strings.Replace(text, "ENV", "USER x\nENV", 1), cached: 1},
		"platform":        {change: func(o *Options) { o.Platform = "linux/other" }, cached: 0},
		"no cache":        {change: func(o *Options) { o.NoCache = true }, cached: 0},
		"epoch":           {change: func(o *Options) { e := time.Unix(9, 0); o.Epoch = &e }, cached: 0},
		"unused argument": {change: withArg("Z", "2"), cached: 4},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.write("dir/f", "f")
			first, err := l.build(text)
			if err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(l)
			}
			if test.text == "" {
				test.text = text
			}
			if test.change == nil {
				test.change = func(*Options) {}
			}
			second, err := l.build(test.text, test.change)
			if err != nil {
				t.Fatal(err)
			}
			if n := l.count(Cached); n != test.cached {
				t.Errorf("%d steps found, want %d", n, test.cached)
			}
			if same := first.Image.ID == second.Image.ID; same != (test.cached == 4) {
				t.Errorf("same image: %v", same)
			}
		})
	}
}

// TestStages: only what is needed is looked at, and what can be is done at the
// same time.
func TestStages(t *testing.T) {
	l := newLab(t)
	l.must("FROM scratch\nLABEL a=b", tagged("base"))
	img, err := l.st.Lookup(t.Context(), "base")
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Add(2)
	meet := func(o *Options) {
		o.Image = func(ctx context.Context, name, _ string, _ func(string)) (*imagestore.Image, error) {
			if name == "unneeded" {
				return nil, errors.New("an unneeded stage is run")
			}
			both.Done()
			both.Wait() // for ever, if the other stage waits for this one
			return img, nil
		}
	}
	l.must("FROM one AS a\nLABEL a=a\nFROM unneeded\nLABEL x=y\nFROM two AS b\nLABEL b=b\nFROM a\nCOPY --from=b --exclude=* / /\n", meet)
	if n := l.count(StageSkips); n != 1 {
		t.Errorf("%d stages skipped", n)
	}
	last := l.events[len(l.events)-1]
	if last.Kind != StageEnds || last.Total != 6 || last.Step != 6 {
		t.Errorf("the last event is %+v", last)
	}
	for _, target := range []string{"a", "A", "0"} {
		both.Add(2)
		go both.Done()
		l.must("FROM one AS a\nLABEL a=a\nFROM unneeded\nLABEL x=y\n", meet, func(o *Options) { o.Target = target })
	}
}

// TestTriggers: what a base image has for those who build on it.
func TestTriggers(t *testing.T) {
	l := newLab(t)
	l.write("a", "a")
	l.must("FROM scratch\nONBUILD ARG V=1\nONBUILD LABEL v=$V\nONBUILD COPY a /", tagged("base"))
	got := l.must("FROM base\nLABEL w=$V", withArg("V", "2"))
	if !strings.Contains(got, `"v":"2","w":"2"`) || strings.Contains(got, "OnBuild") {
		t.Error(got)
	}
	if l.count(Triggers) != 1 {
		t.Errorf("%v", l.events)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("FROM scratch\nRUN --mount=type=cache,target=/x <<E\nx\nE\n")
	f.Add("ARG A=${B:-1}\nFROM $A AS b\nCOPY --from=b <<E <<\"F\" /\nE\nF\n")
	f.Add("# escape=`\nFROM x\nHEALTHCHECK --interval=1s CMD [\"a\"]\nONBUILD ADD a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		o := Options{Dockerfile: []byte(text), BuildArgs: map[string]*string{}}
		p, err := parse(&o)
		if (p == nil) == (err == nil) && err == nil {
			t.Error("neither a plan nor an error")
		}
	})
}

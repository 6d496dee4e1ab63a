package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canary is a folder of the host that nothing may change, and whose secret
// nothing may show.
type canary struct {
	t           *testing.T
	dir, before string
}

const canarySecret = "what only the host may see"

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{t: t, dir: t.TempDir()}
	must(t, os.WriteFile(filepath.Join(c.dir, "secret"), []byte(canarySecret), 0o644))
	must(t, os.Mkdir(filepath.Join(c.dir, "empty"), 0o755))
	c.before = c.look()
	return c
}

// look lists the folder with everything that a change would show in.
func (c *canary) look() string {
	return shell(c.t, c.dir, `find . -printf '%p %y %m %u %g %s %T@ %C@ %l\n' | sort; cat secret`)
}

func (c *canary) check() {
	c.t.Helper()
	if now := c.look(); now != c.before {
		c.t.Errorf("the host's folder changed:\n%s\nbefore:\n%s", now, c.before)
	}
}

// TestBuildHostileImage: links of an image that point out of it, in every place
// that a build writes to or mounts on, lead nowhere outside.
func TestBuildHostileImage(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	c := newCanary(t)
	out := strings.Repeat("../", 40) + c.dir[1:]
	for i, link := range []string{c.dir, out, "/proc/1/root" + c.dir} {
		shell(t, b.dir, fmt.Sprintf(`rm -rf evil && mkdir -p evil/bin && cp "$(command -v busybox)" evil/bin/busybox &&
			for n in sh cat echo mkdir touch ls; do ln -s busybox evil/bin/$n; done
			for n in etc tmp run work dev proc sys; do ln -s %q evil/$n; done
			ln -s %[1]q/secret evil/file
			tar -C evil -cf evil%d.tar .`, link, i))
		b.run("import", "-q", "-c", "ENV PATH=/bin", b.path(fmt.Sprintf("evil%d.tar", i)), "evil")
		for _, step := range []string{
			"WORKDIR /work/made",
			"WORKDIR work",
			"COPY a /work/",
			"COPY a /file",
			"ADD x.tar /work/",
			"COPY --chown=1:1 --chmod=777 a /work/empty",
			"RUN echo x > /work/z",
			"RUN --mount=source=a,target=/work/m cat /work/m",
			"RUN --mount=type=cache,target=/work/c touch /work/c/x",
			"RUN --mount=type=secret,id=s,target=/work/empty/s ls /work",
			"RUN --mount=type=tmpfs,target=/work/empty ls /work",
			"RUN --mount=from=evil,source=/file,target=/m cat /m",
			"COPY --from=evil /file /bin/x\nRUN cat /bin/x",
			"COPY --from=evil /work /bin/x/\nRUN cat /bin/x/secret",
		} {
			file := b.dockerfile("Dockerfile", "FROM evil\n"+step+"\n")
			shell(t, b.dir, "echo a > context/a; tar -C context -cf context/x.tar a")
			r := b.try("build", "--no-cache", "--secret", "id=s,src="+b.path("context/a"), "-f", file, b.path("context"))
			if strings.Contains(r.stdout+r.stderr, canarySecret) {
				t.Errorf("%s over links to %s shows the host's file:\n%s", step, link, r.stdout)
			}
			c.check()
		}
	}
	b.assertNothingLeft("nothing at all", true)
	b.run("fsck")
}

// TestBuildHostileContext: a context whose folders are swapped for links to
// elsewhere while it is read gives its own files or an error.
func TestBuildHostileContext(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	c := newCanary(t)
	shell(t, b.dir, "mkdir -p context/real context/real2; echo fine > context/real/secret; cp -r context/real context/d")
	must(t, os.Symlink(c.dir, b.path("context/link")))
	file := b.dockerfile("Dockerfile", "FROM scratch\nCOPY d /d\nCOPY d/secret /one\nCOPY link* /links\n")
	stop := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				swapped <- n
				return
			default:
				_ = os.Rename(b.path("context/d"), b.path("context/away"))
				_ = os.Symlink(c.dir, b.path("context/d"))
				_ = os.Remove(b.path("context/d"))
				_ = os.Rename(b.path("context/away"), b.path("context/d"))
			}
		}
	}()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		r := b.try("build", "-q", "--no-cache", "-o", "type=tar,dest="+b.path("out.tar"), "-f", file, b.path("context"))
		data, err := os.ReadFile(b.path("out.tar"))
		if r.code == 0 && (err != nil || strings.Contains(string(data), canarySecret)) {
			t.Fatalf("the host's file is in the image: %v", err)
		}
	}
	close(stop)
	if n := <-swapped; n < 100 {
		t.Errorf("swapped %d times only", n)
	}
	c.check()
}

// TestBuildLeaksNothing: a program of RUN has the standard descriptors alone, no
// variable of ours, and does not outlive its step.
func TestBuildLeaksNothing(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	word := fmt.Sprintf("86403.%d", os.Getpid())
	b.env = append(b.env, "UNIO_TEST_TOKEN=do-not-show")
	out := b.run("build", "-f", b.dockerfile("Dockerfile", "FROM bb\n"+
		"RUN readlink /proc/$$/fd/2 > /dev/null && ! readlink /proc/$$/fd/3 && echo three descriptors\n"+
		"RUN env; cat /proc/self/environ\n"+
		"RUN (setsid setsid sleep "+word+" > /dev/null 2>&1 &); sleep "+word+" & echo started\n"+
		"RUN ls /proc | grep -c '^[0-9]'\n"), b.path("context"))
	if strings.Contains(out, "do-not-show") {
		t.Errorf("a variable of the host is seen:\n%s", out)
	}
	if !strings.Contains(out, "\nthree descriptors\n") || !strings.Contains(out, "\nstarted\n") {
		t.Errorf("descriptors:\n%s", out)
	}
	b.assertNothingLeft(word, true)
}

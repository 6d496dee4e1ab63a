package integration

import (
	"os"
	"strings"
	"testing"
)

// TestBuildRootless builds as an ordinary user, through fusermount3 and in a
// user namespace: owners that COPY gives are in the image all the same.
func TestBuildRootless(t *testing.T) {
	b := userBox(t)
	shell(t, b.dir, `mkdir ctx root root/bin root/etc && cp "$(command -v busybox)" root/bin/busybox &&
		for name in sh id touch cat rm ls; do ln -s busybox root/bin/$name; done &&
		echo 'root:x:0:0:root:/:/bin/sh' > root/etc/passwd && tar -C root -cf base.tar . && echo a > ctx/a && chmod -R a+rX .`)
	must(t, os.WriteFile(b.path("ctx/Dockerfile"), []byte(`FROM base
RUN id && touch /made && rm /etc/passwd
COPY --chown=5:6 a /copied
RUN --mount=type=cache,target=/c touch /c/x && cat /copied
`), 0o644))
	b.run("import", "-q", "-c", "ENV PATH=/bin", b.path("base.tar"), "base")
	out := b.run("build", "-t", "app", b.path("ctx"))
	if !strings.Contains(out, "uid=0(root)") || !strings.Contains(out, "\na\n") {
		t.Error(out)
	}
	b.run("build", "-q", "-o", "type=tar,dest="+b.path("out.tar"), b.path("ctx"))
	list := shell(t, b.dir, "tar --numeric-owner -tvf out.tar")
	for _, want := range []string{"5/6", "0/0 ", "copied", "made"} {
		if !strings.Contains(list, want) {
			t.Errorf("%q lacks %q", list, want)
		}
	}
	if strings.Contains(list, "passwd") {
		t.Error("what was removed is there")
	}
	b.run("fsck")
}

package registry_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"unio/imagestore"
	"unio/imagestore/registry/registrytest"
)

// killedChunk is how many bytes a push that will be killed sends at once.
const killedChunk = 512 << 10

// killedPush is a store whose image is pushed, by processes that die, to
// docker-registry behind a proxy.
type killedPush struct {
	x    *registrytest.Proxy
	addr string // of the registry itself
	st   *imagestore.Store
	ref  string
	img  *imagestore.Image
}

func newKilledPush(t *testing.T, parts int) *killedPush {
	t.Helper()
	k := &killedPush{addr: registrytest.Start(t), st: openStore(t)}
	k.x = registrytest.NewProxy(t, k.addr)
	k.ref = k.x.Addr + "/" + publishedName
	k.img = localImage(t, k.st, k.ref, layerTar(t, map[string][]byte{"big": randomBytes(parts*killedChunk-4096, 3)}))
	return k
}

// start starts a process that pushes.
func (k *killedPush) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := pullProcess(k.st.Root(), k.ref)
	cmd.Env = append(cmd.Env, killedVerb+"=push", "DOCKER_CONFIG="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// finish pushes to the end and compares what is there then.
func (k *killedPush) finish(t *testing.T) {
	t.Helper()
	if err := k.start(t).Wait(); err != nil {
		t.Fatal(err)
	}
	other := openStore(t)
	if got := pull(t, other, k.addr+"/"+publishedName); got.ImageID != k.img.ID {
		t.Errorf("pulled %s, pushed %s", got.ImageID, k.img.ID)
	}
	clean(t, other)
	clean(t, k.st)
}

// TestKilledPush kills pushes at random moments, while a registry that keeps
// half of a request and loses its session gets them.
func TestKilledPush(t *testing.T) {
	t.Parallel()
	k := newKilledPush(t, 12)
	for range 8 {
		begun := make(chan struct{}, 1)
		k.x.On("PATCH", "", 1, func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
			begun <- struct{}{}
			serve.ServeHTTP(w, r)
		})
		cmd := k.start(t)
		over := make(chan struct{})
		go func() { defer close(over); _ = cmd.Wait() }()
		select {
		case <-begun:
			time.Sleep(rand.N(20 * time.Millisecond))
		case <-over: // an earlier one got to the end
		}
		_ = cmd.Process.Kill()
		<-over
	}
	k.finish(t)
}

// TestKilledPushGoesOn kills pushes in the middle of a request, behind a proxy
// that passes on whole requests only: all of it is one session, and of twenty
// kills each costs the part that was under way.
func TestKilledPushGoesOn(t *testing.T) {
	t.Parallel()
	const kills, parts = 20, 24
	k := newKilledPush(t, parts)
	k.x.On("PATCH", "", 0, registrytest.Whole())
	for range kills {
		inside, killed := make(chan struct{}), make(chan struct{})
		k.x.On("PATCH", "", 1, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.CopyN(io.Discard, r.Body, 100_000)
			close(inside)
			<-killed
			panic(http.ErrAbortHandler)
		})
		k.x.On("PATCH", "", 1, registrytest.Whole())
		cmd := k.start(t)
		<-inside
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		close(killed)
	}
	k.finish(t)
	if n := len(k.x.Seen("POST", "")); n != 2 {
		t.Errorf("%d upload sessions for a layer and a config", n)
	}
	if n := len(k.x.Seen("PATCH", "")); n > parts+kills+2 {
		t.Errorf("%d requests for %d parts and %d kills", n, parts, kills)
	}
}

package registry_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"unio/imagestore"
	"unio/imagestore/registry"
	"unio/imagestore/registry/registrytest"
)

// chaos does something bad to one request in a few, by a seed.
type chaos struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (c *chaos) n(most int) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Int64N(int64(most))
}

// fault is a random one, nil mostly. Answers may be damaged, too.
func (c *chaos) fault(method string) registrytest.Fault {
	if method == http.MethodPatch {
		switch c.n(8) {
		case 0:
			return registrytest.BreakRequest(c.n(400_000), c.n(2) == 0)
		case 1:
			return registrytest.Refuse()
		case 2:
			return registrytest.Status(500)
		}
		return registrytest.Whole()
	}
	switch c.n(40) {
	case 0:
		return registrytest.Refuse()
	case 1, 2, 3:
		return registrytest.Break(c.n(1_000_000))
	case 4:
		return registrytest.Truncate(c.n(1_000_000))
	case 5:
		return registrytest.Status([]int{429, 500, 502, 503, 504}[c.n(5)], "Retry-After", "0")
	case 6:
		return registrytest.Stall(c.n(1_000_000))
	case 7:
		return registrytest.NoRanges()
	case 8:
		return registrytest.Lie(func(h http.Header) { h.Set("Content-Range", "bytes 0-9/10") })
	case 9:
		return registrytest.Slow(100_000, time.Millisecond)
	case 10:
		return registrytest.Corrupt(c.n(1_000_000))
	}
	return nil
}

func (c *chaos) serve(w http.ResponseWriter, r *http.Request, serve http.Handler) {
	if f := c.fault(r.Method); f != nil {
		f(w, r, serve)
		return
	}
	serve.ServeHTTP(w, r)
}

// TestRandomFaults pushes and pulls while all goes wrong by chance. Whatever
// comes of it, an image that is there is the right one, an error is one line,
// the store is sound, and when all is calm again the same command succeeds.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	rounds, seed := 6, uint64(time.Now().UnixNano())
	if os.Getenv("UNIO_TEST_LONG") != "" {
		rounds = 400
	}
	t.Logf("seed %d", seed)
	addr := registrytest.Start(t)
	done := 0
	for round := range rounds {
		c := &chaos{r: rand.New(rand.NewPCG(seed, uint64(round)))}
		x := registrytest.NewProxy(t, addr)
		ref := fmt.Sprintf("%s/soak/%d:1", x.Addr, round)
		st, other := openStore(t), openStore(t)
		img := localImage(t, st, ref, layerTar(t, map[string][]byte{"big": randomBytes(2<<20, uint64(round))}), layerTar(t, map[string][]byte{"a": []byte(ref)}))
		x.On("", "/v2/soak/", 0, c.serve)
		push := func(c *registry.Client) error {
			_, err := c.Push(t.Context(), st, ref, registry.PushOptions{})
			return err
		}
		pull := func(c *registry.Client) error {
			_, err := c.Pull(t.Context(), other, ref, registry.PullOptions{})
			return err
		}
		for _, do := range []func(*registry.Client) error{push, pull} {
			x.On("", "/v2/soak/", 0, c.serve)
			for range 2 {
				if soakTry(t, do) {
					done++
				}
			}
			x.Calm()
			if err := do(impatient()); err != nil {
				t.Fatalf("round %d: when all is calm: %v", round, err)
			}
		}
		got, err := other.Lookup(t.Context(), ref)
		if err != nil || got.ID != img.ID {
			t.Fatalf("round %d: got %+v, %v", round, got, err)
		}
		clean(t, st)
		clean(t, other)
		if round%50 == 49 {
			collectAll(t, st, other)
		}
	}
	t.Logf("%d of %d attempts succeeded", done, 4*rounds)
}

// soakTry makes one attempt and looks at its error.
func soakTry(t *testing.T, do func(*registry.Client) error) bool {
	t.Helper()
	err := do(impatient(func(o *registry.Options) { o.Chunk, o.Stall = 300_000, 200*time.Millisecond }))
	if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 800) {
		t.Errorf("not one line: %q", err)
	}
	return err == nil
}

func collectAll(t *testing.T, stores ...*imagestore.Store) {
	t.Helper()
	for _, st := range stores {
		if _, err := st.Collect(t.Context()); err != nil {
			t.Error(err)
		}
		clean(t, st)
	}
}

package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"unio/imagestore"
)

// bigImage is an image whose layer takes many reads.
func bigImage(t *testing.T) *testImage {
	return imageOf(t, "", map[string]string{"big": noise(3 << 20)})
}

func TestPullResumes(t *testing.T) {
	for name, ranges := range map[string]bool{"with ranges": true, "without ranges": false} {
		t.Run(name, func(t *testing.T) {
			f, st := newFake(t), newStore(t)
			im := bigImage(t)
			f.publish(t, "1", im)
			var starts []string
			f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
				starts = append(starts, r.Header.Get("Range"))
				if len(starts) > 3 {
					if !ranges {
						r.Header.Del("Range")
					}
					return false
				}
				breakOff(w, r, im.blobs[0], len(im.blobs[0])/4, ranges)
				return true
			})
			mustPull(t, st, f.host+"/x:1")
			if len(starts) != 4 {
				t.Errorf("requests: %q", starts)
			}
			if starts[0] != "" || ranges && starts[3] == starts[1] {
				t.Errorf("ranges asked for: %q", starts)
			}
		})
	}
}

// breakOff sends at most n bytes of a blob, from where the request wants them,
// and then cuts the connection.
func breakOff(w http.ResponseWriter, r *http.Request, b []byte, n int, ranges bool) {
	from := 0
	if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && ranges {
		from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
		w.Header().Set("Content-Range", "bytes "+strconv.Itoa(from)+"-"+strconv.Itoa(len(b)-1)+"/"+strconv.Itoa(len(b)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	} else if !ranges {
		n *= 3 // get further each time than what is read over
	}
	w.Write(b[from:min(from+n, len(b))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestPullGivesUpOnTruncation(t *testing.T) {
	f := newFake(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		breakOff(w, r, im.blobs[0], 0, true)
		return true
	})
	_, err := pullError1(t, f.host+"/x:1", PullOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if n := f.count("GET /v2/x/blobs/" + im.manifest.Layers[0].Digest.String()); n != maxBreaks {
		t.Errorf("%d tries, want %d", n, maxBreaks)
	}
}

// A part that is not the one asked for is not believed; the blob is asked for
// as a whole, and what is known is read over.
func TestPullRefusesWrongRange(t *testing.T) {
	size := func(b []byte) string { return strconv.Itoa(len(b)) }
	for name, header := range map[string]func(b []byte, from string) string{
		"another start":  func(b []byte, _ string) string { return "bytes 1-" + strconv.Itoa(len(b)-1) + "/" + size(b) },
		"another end":    func(b []byte, from string) string { return "bytes " + from + "-" + size(b) + "/" + size(b) },
		"another length": func(b []byte, from string) string { return "bytes " + from + "-" + strconv.Itoa(len(b)-1) + "/1" },
		"another unit":   func(b []byte, from string) string { return "lines " + from + "-" + strconv.Itoa(len(b)-1) + "/*" },
		"none":           func([]byte, string) string { return "" },
		"416":            nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			im := bigImage(t)
			f.publish(t, "1", im)
			var asked []string
			f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
				from := strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
				asked = append(asked, from)
				switch {
				case from != "" && header == nil:
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				case from != "":
					w.Header().Set("Content-Range", header(im.blobs[0], from))
					w.WriteHeader(http.StatusPartialContent)
					w.Write(im.blobs[0])
				case len(asked) > 1:
					return false
				default:
					breakOff(w, r, im.blobs[0], 300_000, true)
				}
				return true
			})
			mustPull(t, newStore(t), f.host+"/x:1")
			if want := []string{"", "300000", ""}; !slices.Equal(asked, want) {
				t.Errorf("asked from %q, want %q", asked, want)
			}
		})
	}
}

// A cache that has a wrong piece of a blob spoils no pull.
func TestPullReplacesWrongPiece(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	bad := bytes.Clone(im.blobs[0])
	bad[1_000_000] ^= 1
	var asked []string
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Header.Get("Range"))
		switch len(asked) {
		case 1:
			breakOff(w, r, im.blobs[0], 500_000, true)
		case 2:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bad))
			return true
		}
		return false
	})
	mustPull(t, st, f.host+"/x:1")
	if want := []string{"", "bytes=500000-", ""}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if left := partials(t, st); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

// Whoever waits longer is told so, in docker's words.
func TestPullTellsOfPauses(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	n := 0
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n == 1 {
			breakOff(w, r, im.blobs[0], 500_000, true)
		}
		return false
	})
	c, rec := newClient(t, func(o *Options) { o.RetryWait = 700 * time.Millisecond })
	if _, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := short(im.manifest.Layers[0].Digest) + ": Retrying in 1 second\n"; !strings.Contains(rec.text(), want) {
		t.Errorf("says\n%s\nwant %q", rec.text(), want)
	}
}

// A part that nobody asked for is refused for good.
func TestPullRefusesUnaskedRange(t *testing.T) {
	f := newFake(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		r.Header.Set("Range", "bytes=1-")
		return false
	})
	if _, err := pullError1(t, f.host+"/x:1", PullOptions{}); !errors.Is(err, ErrVerify) {
		t.Errorf("got %v", err)
	}
}

func TestPullSurvivesStall(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	var stalled atomic.Bool
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		if stalled.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(im.blobs[0])))
		w.Write(im.blobs[0][:70_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	c, _ := newClient(t, func(o *Options) { o.Stall = 200 * time.Millisecond })
	if _, err := c.Pull(t.Context(), st, f.host+"/x:1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestPullEndsWhenAllStalls(t *testing.T) {
	f := newFake(t)
	f.publish(t, "1", bigImage(t))
	f.on("GET", "/blobs/", func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	_, err := pullError1(t, f.host+"/x:1", PullOptions{}, func(o *Options) { o.Stall = 50 * time.Millisecond })
	if !errors.Is(err, errStalled) {
		t.Errorf("got %v", err)
	}
}

func TestPullRetriesBusyServer(t *testing.T) {
	f, st := newFake(t), newStore(t)
	f.publish(t, "1", imageOf(t, "", map[string]string{"a": "1"}))
	statuses := []int{429, 500, 502, 503}
	var first time.Time
	var waited time.Duration
	f.on("GET", "/manifests/1", func(w http.ResponseWriter, _ *http.Request) bool {
		if len(statuses) == 0 {
			return false
		}
		switch statuses[0] {
		case 429:
			w.Header().Set("Retry-After", "1")
			first = time.Now()
		case 500:
			waited = time.Since(first)
		}
		w.WriteHeader(statuses[0])
		statuses = statuses[1:]
		return true
	})
	mustPull(t, st, f.host+"/x:1")
	if waited < time.Second {
		t.Errorf("asked again after %v, although told to wait for a second", waited)
	}
}

func TestPullGivesUpOnBrokenServer(t *testing.T) {
	f := newFake(t)
	f.on("GET", "/manifests/1", func(w http.ResponseWriter, _ *http.Request) bool {
		apiError(w, http.StatusInternalServerError, "UNKNOWN", "disk on fire")
		return true
	})
	_, err := pullError1(t, f.host+"/x:1", PullOptions{})
	if !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("got %v", err)
	}
	if n := f.count("GET /v2/x/manifests"); n != maxTries {
		t.Errorf("%d requests", n)
	}
}

// A registry that is never content with the credentials must not be asked for ever.
func TestPullUnauthorizedLoop(t *testing.T) {
	for name, challenge := range map[string]func(host string) string{
		"basic":  func(string) string { return `Basic realm="x"` },
		"bearer": func(host string) string { return `Bearer realm="http://` + host + `/token",service="x"` },
		"none":   func(string) string { return "" },
		"odd":    func(string) string { return `Negotiate abc` },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.on("GET", "", func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					w.Write([]byte(`{"token":"abc"}`))
					return true
				}
				w.Header().Set("WWW-Authenticate", challenge(f.host))
				apiError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
				return true
			})
			_, err := pullError1(t, f.host+"/x:1", PullOptions{}, withPassword)
			if !errors.Is(err, ErrNotFound) || err.Error() != "unauthorized: authentication required" {
				t.Errorf("got %v", err)
			}
			if n := f.count("GET"); n > 8 {
				t.Errorf("%d requests", n)
			}
			if strings.Contains(err.Error(), secretWord) {
				t.Errorf("error tells the password: %v", err)
			}
		})
	}
}

const (
	userName   = "someone"
	secretWord = "correct-horse"
)

// withPassword gives the same name and password to whoever asks.
func withPassword(o *Options) {
	o.Credentials = func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: userName, Password: secretWord}, nil
	}
}

func TestPullWithoutCredentials(t *testing.T) {
	f := newFake(t)
	f.on("GET", "", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	_, err := pullError1(t, f.host+"/x:1", PullOptions{})
	if err.Error() != "no basic auth credentials" {
		t.Errorf("got %v", err)
	}
}

func TestPullCanceled(t *testing.T) {
	f, st := newFake(t), newStore(t)
	im := bigImage(t)
	f.publish(t, "1", im)
	ctx, cancel := context.WithCancel(t.Context())
	f.on("GET", im.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(im.blobs[0])))
		w.Write(im.blobs[0][:100_000])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
		return true
	})
	c, _ := newClient(t)
	_, err := c.Pull(ctx, st, f.host+"/x:1", PullOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if temps, err := st.Blobs().Temps(); err != nil || len(temps) > 0 {
		t.Errorf("temporary files left: %v, %v", temps, err)
	}
	if _, err := st.Lookup(t.Context(), f.host+"/x:1"); !errors.Is(err, imagestore.ErrNotFound) {
		t.Errorf("half an image: %v", err)
	}
}

func TestPullNobodyThere(t *testing.T) {
	f := newFake(t)
	f.Close()
	_, err := pullError1(t, f.host+"/x:1", PullOptions{})
	if !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

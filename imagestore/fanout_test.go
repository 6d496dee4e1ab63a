package imagestore

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// endless gives zeros for ever, and says when it has given enough.
type endless struct {
	left   int
	enough func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left -= len(p); e.left < 0 {
		e.enough()
	}
	return len(p), nil
}

// TestFanOutCanceled stops a stream whose sink takes no notice, so that the
// feeder is the first to see it.
func TestFanOutCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	idle := func(io.Reader) error {
		<-ctx.Done()
		return nil
	}
	if err := fanOut(ctx, &endless{chunkQueue * chunkSize, cancel}, idle); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestFanOutErrors(t *testing.T) {
	t.Parallel()
	full, broken := errors.New("full"), errors.New("broken")
	all := func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	some := func(r io.Reader) error {
		if _, err := io.CopyN(io.Discard, r, 3*chunkSize); err != nil {
			return err
		}
		return full
	}
	long := func() io.Reader { return &endless{1 << 40, nil} }
	for name, tc := range map[string]struct {
		r     io.Reader
		sinks []sink
		want  error
	}{
		"nothing fails":     {strings.NewReader("abc"), []sink{all, all}, nil},
		"a sink fails":      {long(), []sink{all, some}, full},
		"the stream fails":  {io.MultiReader(strings.NewReader("abc"), broke{broken}), []sink{all, all}, broken},
		"a sink needs less": {strings.NewReader("abc"), []sink{all, func(io.Reader) error { return nil }}, nil},
		"both, it first":    {broke{broken}, []sink{all, some}, broken},
	} {
		if err := fanOut(t.Context(), tc.r, tc.sinks...); err != tc.want {
			t.Errorf("%s: error is %v, not %v", name, err, tc.want)
		}
	}
}

type broke struct{ err error }

func (b broke) Read([]byte) (int, error) { return 0, b.err }

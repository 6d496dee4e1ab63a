package imagestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func TestContextReaderReads(t *testing.T) {
	want := []byte(noise(100_000, 1))
	for name, r := range map[string]io.Reader{
		"plain": bytes.NewReader(want), "bytes": iotest.OneByteReader(bytes.NewReader(want[:500])), "error with data": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		got, err := io.ReadAll(ContextReader(bg, r))
		must(t, err)
		if !bytes.HasPrefix(want, got) || len(got) < 500 {
			t.Errorf("%s: read %d bytes", name, len(got))
		}
	}
}

func TestContextReaderEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(bg)
	pr, _ := io.Pipe() // nobody writes
	time.AfterFunc(20*time.Millisecond, cancel)
	s := newStore(t)
	_, err := s.AddLayer(ctx, ContextReader(ctx, pr), LayerOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	assertEmpty(t, s)
}

package imagestore

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// writeBomb writes a zstd stream of a tar with one file of n zeros.
func writeBomb(w io.Writer, n int64) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	tw := tar.NewWriter(z)
	if err := tw.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: n, Typeflag: tar.TypeReg, Format: tar.FormatPAX}); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for ; n > 0; n -= int64(len(block)) {
		if _, err := tw.Write(block); err != nil {
			return err
		}
	}
	return z.Close()
}

// Who compressed with a larger window than zstd(1) reads by itself is told so.
func TestLargeWindow(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(256<<20), zstd.WithSingleSegment(false))
	must(t, err)
	_, err = z.Write(make([]byte, 1<<20)) // more than fits one block: the header has to name the window
	must(t, err)
	must(t, z.Flush())
	must(t, z.Close())
	_, err = newStore(t).AddLayer(bg, &b, LayerOptions{})
	if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "--long=27") {
		t.Errorf("error %v", err)
	}
}

package imagestore

import (
	"archive/tar"
	"io"

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

package layer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"unio/imagestore/layer"
)

// randomLayer is a layer over a few names, so that layers meet: files, folders,
// links of both kinds, devices, attributes, whiteouts.
func randomLayer(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for range 1 + r.IntN(12) {
		h := &tar.Header{Format: tar.FormatPAX, Mode: 0o600 + int64(r.IntN(64)), Uid: r.IntN(3), Name: randomPath(r)}
		text := ""
		switch r.IntN(9) {
		case 0, 1:
			h.Typeflag = tar.TypeDir
			if r.IntN(4) == 0 {
				h.Name = "." // the root
			}
		case 2:
			h.Typeflag, h.Linkname = tar.TypeSymlink, randomPath(r)
		case 3:
			h.Typeflag, h.Linkname = tar.TypeLink, randomPath(r)
		case 4:
			h.Typeflag, h.Devminor = tar.TypeChar, 3
		case 5:
			h.Name, h.Typeflag = randomPath(r)+"/.wh."+randomName(r), tar.TypeReg
		case 6:
			h.Name, h.Typeflag = randomPath(r)+"/.wh..wh..opq", tar.TypeReg
		default:
			text = fmt.Sprint(r.IntN(1000))
			h.Typeflag, h.Size = tar.TypeReg, int64(len(text))
		}
		if r.IntN(3) == 0 && h.Typeflag != tar.TypeLink {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user." + randomName(r): randomName(r), "SCHILY.xattr.user.n": "1"}
		}
		writeEntry(t, w, h, text)
	}
	check(t, w.Close())
	return buf.Bytes()
}

func randomName(r *rand.Rand) string { return string(rune('a' + r.IntN(5))) }

func randomPath(r *rand.Rand) string {
	path := randomName(r)
	for range r.IntN(3) {
		path += "/" + randomName(r)
	}
	return path
}

// Whatever the layers are, a view that was extended is the view of the whole
// chain, so that no number depends on how it was made.
func TestExtendRandom(t *testing.T) {
	good := 0
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var tars [][]byte
		for range 2 + r.IntN(4) {
			tars = append(tars, randomLayer(t, r))
			if _, err := compareBuilds(t, tars); err != nil {
				t.Logf("seed %d: %v", seed, err)
				tars = tars[:len(tars)-1] // no layer: a link to nothing, a ring
				continue
			}
			good++
		}
	}
	if good < 400 {
		t.Errorf("only %d chains could be built", good)
	}
}

// compareBuilds compares both ways of building in memory.
func compareBuilds(t *testing.T, tars [][]byte) (*layer.ViewData, error) {
	t.Helper()
	var layers []*layer.Index
	var contents []io.ReaderAt
	for _, b := range tars {
		layers, contents = append(layers, mustScan(t, b)), append(contents, bytes.NewReader(b))
	}
	d, err := layer.BuildView(layers)
	checkExtension(t, layers, contents, d, err)
	return d, err
}

func BenchmarkExtendView(b *testing.B) {
	for _, n := range []int{25_000, 90_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path, contents := benchView(b, n)
			v, err := layer.OpenView(path, contents)
			check(b, err)
			defer v.Close()
			x := mustScan(b, tarOf(b, "usr/share/doc/package-00007/new=1"))
			b.ReportAllocs()
			for b.Loop() {
				_, err := layer.ExtendView(v, x)
				check(b, err)
			}
		})
	}
}

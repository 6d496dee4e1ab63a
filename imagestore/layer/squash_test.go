package layer_test

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"unio/imagestore/layer"
)

// TestSquash: one layer shows over the base what several show, and holds no
// more than what differs.
func TestSquash(t *testing.T) {
	base := []string{"d/", "d/a=1", "d/b=2", "e/", "e/f=3", "g=4", "l -> g", "h=5", "hh => h", "x/", "x/y/", "x/y/z=6"}
	for name, test := range map[string]struct {
		layers [][]string
		holds  string // names in the squashed tar
	}{
		"nothing":          {[][]string{{}, {}}, ""},
		"came and went":    {[][]string{{"new=1"}, {".wh.new="}}, ""},
		"there and back":   {[][]string{{".wh.g="}, {"g=4"}}, "g"},
		"changed twice":    {[][]string{{"g=a"}, {"g=b"}}, "g"},
		"deleted":          {[][]string{{"d/.wh.a="}, {".wh.e="}}, ".wh.e d/ d/.wh.a"},
		"file to folder":   {[][]string{{"g/", "g/i=1"}, {"g/j=2"}}, "g/ g/i g/j"},
		"folder to file":   {[][]string{{"x=1"}}, "x"},
		"replaced folder":  {[][]string{{".wh.d="}, {"d/", "d/b=2", "d/n=1"}}, "d/ d/.wh.a d/b d/n"},
		"opaque":           {[][]string{{"x/", "x/.wh..wh..opq="}, {"x/new=1"}}, "x/ x/.wh.y x/new"},
		"one of two links": {[][]string{{".wh.hh="}}, ".wh.hh"},
		"link to new":      {[][]string{{"n=1"}, {"m=2", "mm => m", ".wh.n="}}, "m mm"},
		"link target":      {[][]string{{".wh.l="}, {"l -> d"}}, "l"},
		"deep":             {[][]string{{"x/y/w=1"}, {"x/y/.wh.z="}}, "x/ x/y/ x/y/.wh.z x/y/w"},
	} {
		t.Run(name, func(t *testing.T) {
			tars := [][]byte{tarOf(t, base...)}
			for _, l := range test.layers {
				tars = append(tars, tarOf(t, l...))
			}
			below, top := mustView(t, tars[0]), mustView(t, tars...)
			var out bytes.Buffer
			check(t, layer.WriteSquash(t.Context(), below, top, &out))
			got := mustView(t, tars[0], bytes.Clone(out.Bytes()))
			if a, b := listing(t, got), listing(t, top); a != b {
				t.Errorf("shows\n%s\nwant\n%s", a, b)
			}
			var names []string
			for r := tar.NewReader(&out); ; {
				h, err := r.Next()
				if err != nil {
					break
				}
				names = append(names, h.Name)
			}
			if got := strings.Join(names, " "); got != test.holds {
				t.Errorf("holds %q, want %q", got, test.holds)
			}
		})
	}
}

package dirlower_test

import (
	"testing"

	"unio/unionfs/dirlower"
	"unio/unionfs/merge/lowertest"
)

func TestConform(t *testing.T) {
	s := newStack(t)
	s.bottom(bottomScript)
	t.Run("one folder", func(t *testing.T) { lowertest.Conform(t, s.tree()) })
	s.script(s.mountKernel, `chmod 600 big; mv a/b moved; rm d/1; chown 5:6 sparse; mkdir h/sub; echo more > e/f/new`)
	s.script(s.mountKernel, `mv moved a/b; mv sparse e/f; rm -r d; mkdir d; chmod 644 big`)
	t.Run("generations", func(t *testing.T) { lowertest.Conform(t, s.tree()) })
	t.Run("without privilege", func(t *testing.T) {
		lowertest.Conform(t, open(t, dirlower.Options{Dirs: s.layers[2:]}))
	})
	t.Run("link counts left out", func(t *testing.T) {
		lowertest.Conform(t, open(t, dirlower.Options{Dirs: s.layers, Root: true, StaticNlink: true}))
	})
}

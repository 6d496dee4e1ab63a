package main

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"unio/imagestore/registry/registrytest"
)

// TestRegistryScripts runs testdata/registry/*.txtar beside two
// registries: $REGISTRY is open, $PRIVATE wants a password. Each script uses repositories of its own.
func TestRegistryScripts(t *testing.T) {
	addr, private := registrytest.Start(t), registrytest.StartPrivate(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/registry",
		Setup: func(e *testscript.Env) error {
			e.Setenv("REGISTRY", addr)
			e.Setenv("PRIVATE", private) // asks for someone's correct-horse
			e.Setenv("DOCKER_CONFIG", e.WorkDir+"/.docker")
			// For patterns, where the dots would stand for anything.
			e.Setenv("REGISTRY_RE", strings.ReplaceAll(addr, ".", `\.`))
			return setupScript(e)
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"status": cmdStatus, "busybox": cmdBusybox},
		Condition: condition,
	})
}

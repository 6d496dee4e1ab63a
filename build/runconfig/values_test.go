package runconfig

import "testing"

func TestIsSignal(t *testing.T) {
	for word, want := range map[string]bool{
		"TERM": true, "SIGTERM": true, "sigkill": true, "1": true, "64": true,
		"SIGRTMIN": true, "RTMAX-2": true, "SIGRTMIN+15": true,
		"": false, "SIG": false, "0": false, "-1": false, "FOO": false, "RTMIN+": false, "RTMIN+99": false,
	} {
		if got := isSignal(word); got != want {
			t.Errorf("%q: %v", word, got)
		}
	}
}

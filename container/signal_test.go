package container

import "testing"

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{
		"TERM": 15, "SIGTERM": 15, "sigkill": 9, "9": 9, "RTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63, "64": 64,
		"FOO": 0, "0": 0, "-1": 0, "65": 0, "RTMIN+x": 0, "RTMAX+1": 0, "": 0,
	} {
		sig, err := ParseSignal(text)
		if int(sig) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", text, sig, err)
		}
	}
	if _, err := ParseSignal("FOO"); err.Error() != "Invalid signal: FOO" {
		t.Errorf("message: %v", err)
	}
}

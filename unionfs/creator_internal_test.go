package unionfs

import "testing"

func TestDirectSafe(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v657": true, "6.18.3": false, "6.19.0-rc1": true, "7.0.0": true, "6.12.66": true, "6.12.43+deb13-amd64": false,
		"6.6.130": true, "6.6.119": false, "6.14.11": false, "5.15.0-1-generic": false, "6.19": true, "": false, "10.1": true,
	} {
		if got := directSafe(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

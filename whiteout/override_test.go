package whiteout

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOverride(t *testing.T) {
	for text, want := range map[string]Owner{
		"0:0:0755":                   {Mode: 0o755},
		"1000:4294967294:4711":       {UID: 1000, GID: 4294967294, Mode: 0o4711},
		"1:2:0600:file":              {UID: 1, GID: 2, Mode: 0o600},
		"1:2:0644:pipe":              {UID: 1, GID: 2, Mode: unix.S_IFIFO | 0o644},
		"1:2:0644:socket":            {UID: 1, GID: 2, Mode: unix.S_IFSOCK | 0o644},
		"0:6:0660:block-8-1":         {GID: 6, Mode: unix.S_IFBLK | 0o660, Rdev: unix.Mkdev(8, 1)},
		"0:0:0666:char-1-4294967295": {Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 4294967295)},
	} {
		if got, ok := ParseOverride(text); !ok || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "0", "0:0", "x:0:0644", "0:-1:0644", "0:0:0999", "4294967296:0:0644", "0:0:0644:", "0:0:0644:door",
		"0:0:0644:char", "0:0:0644:char-1", "0:0:0644:char-x-1", "0:0:0644:block-1-4294967296", "0:0:0644:char-1-2-3",
	} {
		if got, ok := ParseOverride(text); ok {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

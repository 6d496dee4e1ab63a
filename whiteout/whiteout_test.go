package whiteout

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		base  string
		kind  Kind
		hides string
		err   error
	}{
		{base: "f"},
		{base: ""},
		{base: ".wh"},
		{base: "wh.f"},
		{base: "f.wh.g"},
		{base: ".WH.f"},
		{base: ".wh.f", kind: File, hides: "f"},
		{base: ".wh. ", kind: File, hides: " "},
		{base: ".wh.\n", kind: File, hides: "\n"},
		{base: ".wh.\xff", kind: File, hides: "\xff"},
		{base: ".wh....", kind: File, hides: "..."},
		{base: ".wh..profile", kind: File, hides: ".profile"},
		{base: ".wh.wh.f", kind: File, hides: "wh.f"},
		{base: ".wh..wh.", kind: Ignore},
		{base: ".wh..wh.plnk", kind: Ignore},
		{base: ".wh..wh.aufs", kind: Ignore},
		{base: ".wh..wh..opqx", kind: Ignore},
		{base: ".wh..wh..opq", kind: Opaque},
		{base: ".wh.", err: ErrName},
		{base: ".wh..", err: ErrName},
		{base: ".wh...", err: ErrName},
	} {
		kind, hides, err := Parse(c.base)
		if kind != c.kind || hides != c.hides || !errors.Is(err, c.err) {
			t.Errorf("Parse(%q) = %v, %q, %v; want %v, %q, %v", c.base, kind, hides, err, c.kind, c.hides, c.err)
		}
	}
}

func TestNameIsParsed(t *testing.T) {
	for _, name := range []string{"f", "...", " ", "\xff\n", strings.Repeat("x", 250)} {
		kind, hides, err := Parse(Name(name))
		if kind != File || hides != name || err != nil {
			t.Errorf("Parse(Name(%q)) = %v, %q, %v", name, kind, hides, err)
		}
		if !IsReserved(Name(name)) || IsReserved(name) {
			t.Errorf("IsReserved of %q or its whiteout", name)
		}
	}
}

func TestIsDevice(t *testing.T) {
	for _, c := range []struct {
		name string
		mode uint32
		rdev uint64
		want bool
	}{
		{"whiteout", unix.S_IFCHR, 0, true},
		{"whiteout with permissions", unix.S_IFCHR | 0o600, 0, true},
		{"null", unix.S_IFCHR | 0o666, unix.Mkdev(1, 3), false},
		{"block", unix.S_IFBLK, 0, false},
		{"file", unix.S_IFREG, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := IsDevice(c.mode, c.rdev); got != c.want {
				t.Errorf("IsDevice(%o, %d) = %v", c.mode, c.rdev, got)
			}
		})
	}
}

func TestXattrNames(t *testing.T) {
	if x := XattrsFor(true); x.Opaque != "trusted.overlay.opaque" || x.Origin != "trusted.unio.origin" {
		t.Errorf("privileged: %+v", x)
	}
	if x := XattrsFor(false); x.Redirect != "user.overlay.redirect" || x.Metacopy != "user.overlay.metacopy" || x.Whiteout != "user.overlay.whiteout" {
		t.Errorf("unprivileged: %+v", x)
	}
}

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		root         bool
		user, stored string
	}{
		{true, "user.note", "user.note"},
		{true, "security.capability", "security.capability"},
		{true, "trusted.overlay", "trusted.overlay"},
		{true, "trusted.overlay.opaque", "trusted.overlay.overlay.opaque"},
		{true, "trusted.overlay.overlay.opaque", "trusted.overlay.overlay.overlay.opaque"},
		{true, "trusted.unio.origin", "trusted.unio.unio.origin"},
		{true, "user.overlay.redirect", "user.overlay.redirect"},
		{false, "user.overlay.redirect", "user.overlay.overlay.redirect"},
		{false, "user.unio.x", "user.unio.unio.x"},
		{false, "trusted.overlay.opaque", "trusted.overlay.opaque"},
		{true, OverrideStat, OverrideStat},
		{false, OverrideStat, OverrideStat + ".kept"},
		{false, OverrideStat + ".kept", OverrideStat + ".kept.kept"},
	} {
		x := XattrsFor(c.root)
		if got := x.Escape(c.user); got != c.stored {
			t.Errorf("Escape(%q) = %q, want %q", c.user, got, c.stored)
		}
		if got, ok := x.Unescape(c.stored); got != c.user || !ok {
			t.Errorf("Unescape(%q) = %q, %v", c.stored, got, ok)
		}
	}
}

func TestUnescapeHidesPrivate(t *testing.T) {
	for stored, root := range map[string]bool{
		"trusted.overlay.opaque": true, "user.overlay.opaque": false,
		"trusted.unio.origin": true, "user.unio.origin": false, OverrideStat: false,
	} {
		x, other := XattrsFor(root), XattrsFor(!root)
		if name, ok := x.Unescape(stored); ok {
			t.Errorf("Unescape(%q) shows %q", stored, name)
		}
		if !x.IsPrivate(stored) {
			t.Errorf("IsPrivate(%q) = false", stored)
		}
		if other.IsPrivate(stored) {
			t.Errorf("%q is private to the union of the other kind", stored)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"f", ".wh.", ".wh.f", OpaqueName, ".wh..wh.plnk", ".wh...", ".wh.a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, base string) {
		kind, hides, err := Parse(base)
		if (kind != None || err != nil) != IsReserved(base) {
			t.Fatalf("Parse(%q) = %v, %v but IsReserved = %v", base, kind, err, IsReserved(base))
		}
		if err == nil && (kind == File) != (hides != "") {
			t.Fatalf("Parse(%q) = %v, hides %q", base, kind, hides)
		}
		if kind == File && (Name(hides) != base || hides == "." || hides == ".." || path.Base(base) == base && hides == "/") {
			t.Fatalf("Parse(%q) hides %q", base, hides)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add("trusted.overlay.opaque")
	f.Add("user.unio.unio.x")
	f.Fuzz(func(t *testing.T, name string) {
		if name == OverrideStat {
			return // has no escaped form: it is never a user's
		}
		for _, root := range []bool{true, false} {
			x := XattrsFor(root)
			if got, ok := x.Unescape(x.Escape(name)); got != name || !ok {
				t.Fatalf("Unescape(Escape(%q)) = %q, %v", name, got, ok)
			}
		}
	})
}

func TestParseRedirect(t *testing.T) {
	for value, want := range map[string]string{
		"/a": "true /a", "/a/b c": "true /a/b c", "a": "true a", "...": "true ...",
		"": "false", "/": "false", "//": "false", "/a/": "false", "/a//b": "false", "a/b": "false", "./a": "false",
		".": "false", "..": "false", "/../a": "false", "/a/..": "false", "/./a": "false",
	} {
		names, absolute, ok := ParseRedirect(value)
		got := strconv.FormatBool(ok)
		if ok {
			got += " " + map[bool]string{true: "/"}[absolute] + strings.Join(names, "/")
		}
		if got != want {
			t.Errorf("ParseRedirect(%q): %s, want %s", value, got, want)
		}
	}
}

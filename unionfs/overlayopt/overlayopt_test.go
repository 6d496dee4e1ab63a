package overlayopt

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"unio/unionfs"
)

func parse(t *testing.T, values ...string) *Options {
	t.Helper()
	o, err := Parser{Dir: "/here"}.Parse(values...)
	if err != nil {
		t.Fatalf("%q: %v", values, err)
	}
	return o
}

func TestFolders(t *testing.T) {
	for _, c := range []struct {
		value       string
		lower       []string
		upper, work string
	}{
		{"lowerdir=/a", []string{"/a"}, "", ""},
		{"lowerdir=/a:/b,upperdir=/u,workdir=/w", []string{"/a", "/b"}, "/u", "/w"},
		{"lowerdir=a:b/c,upperdir=u,workdir=../w", []string{"/here/a", "/here/b/c"}, "/here/u", "/here/../w"},
		{`lowerdir=/a\:b:/c\,d:/e\\f`, []string{"/a:b", "/c,d", `/e\f`}, "", ""},
		{`lowerdir=/a\b`, []string{"/ab"}, "", ""}, // any character behind a backslash
		{`lowerdir=/a\`, []string{"/a"}, "", ""},
		{`lowerdir=/l,upperdir=/u\:\,\\,workdir=/w:w`, []string{"/l"}, `/u:,\`, "/w:w"},
		{"lowerdir=/a=b", []string{"/a=b"}, "", ""},
		{"lowerdir=:/a:", []string{"/a"}, "", ""},
		{"lowerdir=/a:/b:/a:/b/", []string{"/a", "/b", "/b/"}, "", ""},
		{"lowerdir=/a,lowerdir=/b", []string{"/b"}, "", ""},
		{"lowerdir+=/a:b,lowerdir+=/c", []string{"/a:b", "/c"}, "", ""},
		{"lowerdir=/x/link/../diff1", []string{"/x/link/../diff1"}, "", ""}, // not cleaned: link may lead elsewhere
		{"lowerdir=/a,workdir=/w", []string{"/a"}, "", ""},
		{",,lowerdir=/a,,", []string{"/a"}, "", ""},
		{"lowerdir=/with space:/ünï", []string{"/with space", "/ünï"}, "", ""},
	} {
		o := parse(t, c.value)
		if !slices.Equal(o.Lower, c.lower) || o.Upper != c.upper || o.Work != c.work {
			t.Errorf("%s gives %q, %q, %q", c.value, o.Lower, o.Upper, o.Work)
		}
	}
	if o := parse(t, "lowerdir=/a", "upperdir=/u,workdir=/w", "lowerdir=/b"); o.Lower[0] != "/b" || o.Upper != "/u" {
		t.Errorf("several -o: %+v", o)
	}
}

func TestManyLowers(t *testing.T) {
	list := make([]string, MaxLower)
	for i := range list {
		list[i] = fmt.Sprint("/l", i)
	}
	if o := parse(t, "lowerdir="+strings.Join(list, ":")); len(o.Lower) != MaxLower {
		t.Errorf("%d lowers", len(o.Lower))
	}
	_, err := Parser{}.Parse("lowerdir=" + strings.Join(append(list, "/more"), ":"))
	if err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("501 lowers: %v", err)
	}
}

func TestSwitches(t *testing.T) {
	yes, no, seven := true, false, uint32(7)
	for option, want := range map[string]Options{
		"ro":       {ReadOnly: true},
		"ro,rw":    {},
		"suid,dev": {Suid: &yes, Dev: &yes},
		"suid,nosuid,nodev,noexec,noatime,sync,dirsync": {
			Suid: &no, Dev: &no, Kernel: []string{"noexec", "noatime", "sync", "dirsync"},
		},
		"uidmapping=0:1000:1:1:100000:65536": {IDs: unionfs.IDs{UIDs: []unionfs.IDRange{{Shown: 1000, Size: 1}, {Stored: 1, Shown: 100000, Size: 65536}}}},
		"gidmapping=:0:5:10":                 {IDs: unionfs.IDs{GIDs: []unionfs.IDRange{{Shown: 5, Size: 10}}}},
		"squash_to_uid=7":                    {IDs: unionfs.IDs{SquashUID: &seven}},
		"metacopy=on,redirect_dir=off":       {Metacopy: &yes, Redirect: &no},
		"redirect_dir=follow,partial=off":    {Redirect: &no, Partial: &no},
		"plain":                              {Plain: &yes},
		"plain,noplain":                      {Plain: &no},
		"userxattr,volatile":                 {UserXattr: true, Volatile: true},
		"fsync=0":                            {Volatile: true},
		"fsync=1":                            {},
		"xattr_permissions=2":                {Override: true},
		"static_nlink,noxattrs,noxattrs=0":   {StaticNlink: true},
		"acl":                                {ACL: true},
		"acl,noacl":                          {},
		"timeout=1.5":                        {Timeout: 1500 * time.Millisecond},
		"timeout=0":                          {Timeout: -1},
		"timeout=1000000000":                 {},
		"writeback=1,threaded=0":             {Writeback: true},
		"transport=dev,transport=uring":      {Transport: "uring"},
		"allow_other,default_permissions":    {AllowOther: true},
		"allow_root,debug":                   {AllowRoot: true, Debug: true},
		`fsname=a\,b,subtype=x`:              {FsName: "a,b", Subtype: "x"},
		`context="system_u:object_r:x:s0:c1,c2",ro`: {
			Labels: []string{`context="system_u:object_r:x:s0:c1,c2"`}, ReadOnly: true,
		},
		"rw,xino=auto,index=off,nfs_export=off,defaults,noauto,user,_netdev,x-systemd.automount,comment=a b,lazytime": {},
	} {
		got := parse(t, "lowerdir=/l,"+option)
		want.Lower = []string{"/l"}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s gives\n%+v, want\n%+v", option, *got, want)
		}
	}
}

func TestSquashToRoot(t *testing.T) {
	o := parse(t, "lowerdir=/l,squash_to_root,squash_to_gid=5")
	if *o.IDs.SquashUID != 0 || *o.IDs.SquashGID != 5 {
		t.Errorf("squashed to %d:%d", *o.IDs.SquashUID, *o.IDs.SquashGID)
	}
}

func TestErrorsNameTheOption(t *testing.T) {
	for value, part := range map[string]string{
		"":                                    "lowerdir",
		"lowerdir=":                           "lowerdir",
		"lowerdir=/a::/b":                     "::",
		"lowerdir=/a\x00b":                    "lowerdir",
		"lowerdir=/a,upperdir=/u":             "workdir",
		"lowerdir=/a,upperdir=,workdir=":      "upperdir",
		"lowerdir=/a,upperdir=/u,workdir=/u":  "/u",
		"lowerdir=/a,frobnicate":              `"frobnicate"`,
		"lowerdir=/a,frobnicate=7":            `"frobnicate=7"`,
		"lowerdir=/a,upperdirr=/u":            `"upperdirr=/u"`,
		"lowerdir=/a,uidmapping=0:1":          "uidmapping",
		"lowerdir=/a,gidmapping=a:b:c":        "gidmapping",
		"lowerdir=/a,squash_to_uid=-1":        "squash_to_uid",
		"lowerdir=/a,squash_to_gid":           "squash_to_gid",
		"lowerdir=/a,metacopy=maybe":          "metacopy",
		"lowerdir=/a,redirect_dir=nofollow":   "redirect_dir",
		"lowerdir=/a,redirect_dir":            "redirect_dir",
		"lowerdir=/a,nfs_export=on":           "nfs_export",
		"lowerdir=/a,timeout=soon":            "timeout",
		"lowerdir=/a,timeout=NaN":             "timeout",
		"lowerdir=/a,transport=":              "transport",
		"lowerdir=/a,transport=tcp":           "transport=tcp",
		"lowerdir=/a,ro=1":                    "ro=1",
		"lowerdir=/a,context=":                "context",
		"lowerdir=/a,plugins=x":               "plugins",
		"lowerdir=/a,auto_unmount":            "auto_unmount",
		"lowerdir=/a,fsname=":                 "fsname",
		"lowerdir=/a,xattr_permissions=1":     "xattr_permissions",
		"lowerdir=/a,datadir+=/d":             "datadir+",
		"lowerdir=/a,upperdir=\x00,workdir=/": "upperdir",
	} {
		o, err := Parser{Dir: "/"}.Parse(value)
		if err == nil {
			t.Errorf("%q is taken: %+v", value, o)
		} else if !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v does not name %s", value, err, part)
		}
	}
}

func TestSloppy(t *testing.T) {
	o, err := Parser{Dir: "/", Sloppy: true}.Parse("lowerdir=/a,frobnicate,ro")
	if err != nil || !o.ReadOnly {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := (Parser{}).Parse("lowerdir=/a,frobnicate"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

// quoted writes a path as an option takes it.
func quoted(path string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(path)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"lowerdir=/a:/b,upperdir=/u,workdir=/w,ro", `lowerdir=\:\,\\`, `context="a,b",lowerdir=x`, "lowerdir=a::b",
		"uidmapping=0:1:2,timeout=1e309,lowerdir=/", `lowerdir=a\`, "lowerdir+=/a,lowerdir=,squash_to_root", `context="`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		o, err := Parser{Dir: "/here"}.Parse(value)
		if err != nil {
			return
		}
		// What was read can be written so that it is read the same.
		again := make([]string, len(o.Lower))
		for i, path := range o.Lower {
			if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
				t.Fatalf("%q: lower %q", value, path)
			}
			again[i] = quoted(path)
		}
		line := "lowerdir=" + strings.Join(again, ":")
		if o.Upper != "" {
			line += ",upperdir=" + quoted(o.Upper) + ",workdir=" + quoted(o.Work)
		}
		p, err := Parser{Dir: "/elsewhere"}.Parse(line)
		if err != nil {
			t.Fatalf("%q, written as %q: %v", value, line, err)
		}
		if !slices.Equal(p.Lower, o.Lower) || p.Upper != o.Upper || p.Work != o.Work {
			t.Fatalf("%q, written as %q: %q %q %q", value, line, p.Lower, p.Upper, p.Work)
		}
	})
}

package cow

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// aclOf packs tag and permission pairs; ids are left at none.
func aclOf(pairs ...uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for i := 0; i < len(pairs); i += 2 {
		b = binary.LittleEndian.AppendUint16(b, pairs[i])
		b = binary.LittleEndian.AppendUint16(b, pairs[i+1])
		b = binary.LittleEndian.AppendUint32(b, 1<<32-1)
	}
	return b
}

func TestCreateACL(t *testing.T) {
	plain := aclOf(aclUserObj, 7, aclGroupObj, 5, aclOther, 0)
	named := aclOf(aclUserObj, 7, aclUser, 7, aclGroupObj, 5, aclMask, 7, aclOther, 1)
	for _, c := range []struct {
		list       []byte
		mode, want uint32
		access     []byte
	}{
		{plain, 0o666, 0o640, nil},
		{plain, 0o4777, 0o4750, nil},
		{named, 0o666, 0o660, aclOf(aclUserObj, 6, aclUser, 7, aclGroupObj, 5, aclMask, 6, aclOther, 0)},
		{named, 0o777, 0o771, named},
		{named, 0, 0, aclOf(aclUserObj, 0, aclUser, 7, aclGroupObj, 5, aclMask, 0, aclOther, 0)},
	} {
		mode, access, err := createACL(c.list, c.mode)
		if err != nil || mode != c.want || string(access) != string(c.access) {
			t.Errorf("%x with %o: mode %o, list %x, %v; want %o, %x", c.list, c.mode, mode, access, err, c.want, c.access)
		}
	}
	if string(named) != string(aclOf(aclUserObj, 7, aclUser, 7, aclGroupObj, 5, aclMask, 7, aclOther, 1)) {
		t.Error("the folder's list has changed")
	}
	for _, bad := range [][]byte{nil, {2, 0, 0}, {1, 0, 0, 0}, plain[:len(plain)-1]} {
		if _, _, err := createACL(bad, 0o644); err == nil {
			t.Errorf("%x is taken for a list", bad)
		}
	}
}

func TestACLNeedsRoot(t *testing.T) {
	f := &FS{acl: true}
	if err := f.checkACL(); err == nil {
		t.Error("lists without privilege")
	}
	what := New{Mode: unix.S_IFREG | 0o666, Umask: 0o022}
	if err := f.inheritACL(&what, func() ([]byte, error) { return nil, unix.ENODATA }); err != nil || what.Mode&0o777 != 0o644 {
		t.Errorf("mode %o, %v", what.Mode, err)
	}
}

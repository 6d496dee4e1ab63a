package unionfs

import "testing"

func TestIDs(t *testing.T) {
	squash := uint32(7)
	twice := []IDRange{{0, 1000, 1}, {1, 100000, 65536}}
	for _, c := range []struct {
		name          string
		ids           IDs
		disk, mount   uint32 // of user and group
		back          uint32 // what mount is stored as
		group, groups uint32 // the group on the mount, and stored again
	}{
		{"none", IDs{}, 5, 5, 5, 5, 5},
		{"first range", IDs{UIDs: twice}, 0, 1000, 0, 0, 0},
		{"second range", IDs{UIDs: twice, GIDs: twice}, 33, 100032, 33, 100032, 33},
		{"last of a range", IDs{UIDs: twice}, 65536, 165535, 65536, 65536, 65536},
		{"outside", IDs{UIDs: twice}, 65537, overflowID, overflowID, 65537, 65537},
		{"squashed", IDs{SquashUID: &squash}, 5, 7, 7, 5, 5},
		{"squashed before mapped", IDs{SquashUID: &squash, UIDs: twice}, 5, 7, overflowID, 5, 5},
		{"range at the end", IDs{UIDs: []IDRange{{0, 4294967290, 6}}}, 5, 4294967295, 5, 5, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, g := c.ids.show(c.disk, c.disk)
			if u != c.mount || g != c.group {
				t.Errorf("%d shows as %d:%d, want %d:%d", c.disk, u, g, c.mount, c.group)
			}
			bu, bg := c.ids.store(u, g)
			if bu != c.back || bg != c.groups {
				t.Errorf("%d:%d is stored as %d:%d, want %d:%d", u, g, bu, bg, c.back, c.groups)
			}
		})
	}
}

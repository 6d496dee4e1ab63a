package unionfs

import "testing"

func TestAsked(t *testing.T) {
	t.Parallel()
	const folder, other, me, you, unknown = 1, 2, 11, 12, anybody
	for name, tc := range map[string]struct {
		by   []uint32 // who has asked for folder
		of   uint64   // what is changed
		from uint32   // by whom
		ago  uint32
		want bool
	}{
		"nobody":             {nil, folder, me, 0, false},
		"itself":             {[]uint32{me, me}, folder, me, 0, false},
		"another":            {[]uint32{you}, folder, me, 0, true},
		"both":               {[]uint32{you, me}, folder, me, 0, true},
		"both, itself first": {[]uint32{me, you, me}, folder, me, 0, true},
		"another folder":     {[]uint32{you}, other, me, 0, false},
		"long ago":           {[]uint32{you}, folder, me, askedLately, false},
		"both, long ago":     {[]uint32{you, me}, folder, me, askedLately, false},
		"out of sight":       {[]uint32{unknown}, folder, unknown, 0, true},
	} {
		const now = 10 * askedLately
		var a asked
		for _, by := range tc.by {
			a.note(folder, by, now)
		}
		if got := a.change(tc.of, tc.from, now+tc.ago); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	// The clock was looked at before the other's note, and the slot after it.
	var late asked
	late.note(folder, you, 2*askedLately+1)
	if !late.change(folder, me, 2*askedLately) {
		t.Error("an asker of the next instant is not waited for")
	}
	late.note(folder, me, 2*askedLately)
	if !late.change(folder, me, 2*askedLately+1) {
		t.Error("a late note has taken the place of another's")
	}
	// Long ago another asked; since then nobody but who makes the change.
	var a asked
	a.note(folder, you, askedLately)
	a.note(folder, me, 2*askedLately)
	if a.change(folder, me, 2*askedLately) {
		t.Error("an asker of long ago is waited for")
	}
}

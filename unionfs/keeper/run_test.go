package keeper

import (
	"encoding/binary"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"unio/unionfs"
	"unio/unionfs/transport"
)

func newKeep(t *testing.T) *keep {
	t.Helper()
	ledger, err := unionfs.NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	return &keep{log: slog.New(slog.DiscardHandler), ledger: ledger}
}

// dies lets a server of so long a life end with a word, and tells whether there
// is to be another, and after what pause.
func (k *keep) dies(lived time.Duration, word byte) (again bool, pause time.Duration) {
	k.server = &server{born: time.Now().Add(-lived)}
	again = k.judge(word)
	return again, k.pause
}

// TestDeaths: servers that die at once are started five times, with longer and
// longer pauses.
func TestDeaths(t *testing.T) {
	k := newKeep(t)
	var pauses []time.Duration
	for i := 1; ; i++ {
		again, pause := k.dies(0, 0)
		if !again {
			if i != MaxDeaths {
				t.Errorf("%d servers, want %d", i, MaxDeaths)
			}
			break
		}
		pauses = append(pauses, pause/time.Millisecond)
	}
	if want := []time.Duration{20, 40, 80, 160}; !slices.Equal(pauses, want) {
		t.Errorf("pauses of %v ms, want %v", pauses, want)
	}
}

// TestGoodLives: one that has worked, or leaves on purpose, makes the deaths
// before it forgotten; one that lived for a moment does not.
func TestGoodLives(t *testing.T) {
	for _, c := range []struct {
		lived  time.Duration
		word   byte
		deaths int
		pause  time.Duration
	}{
		{healthy, 0, 1, 0},
		{brisk, 0, MaxDeaths - 1, 0},
		{0, wordLeaving, 0, 0},
		{0, 0, MaxDeaths - 1, 8 * firstPause},
	} {
		k := newKeep(t)
		for range MaxDeaths - 2 {
			k.dies(0, 0)
		}
		again, pause := k.dies(c.lived, c.word)
		if !again || k.deaths != c.deaths || pause != c.pause {
			t.Errorf("after %v and %q: again %v, %d deaths, pause %v", c.lived, c.word, again, k.deaths, pause)
		}
	}
	k := newKeep(t)
	k.pause = maxPause
	if _, pause := k.dies(0, 0); pause != maxPause {
		t.Errorf("a pause of %v", pause)
	}
}

// resending is an INIT request of a kernel that repeats requests.
func resending() []byte {
	init := make([]byte, 104)
	binary.NativeEndian.PutUint32(init[40+12:], 1<<30)
	binary.NativeEndian.PutUint32(init[40+16:], 1<<7)
	return init
}

func TestCannotGoOn(t *testing.T) {
	if !transport.CanResend(resending()) {
		t.Fatal("the request of this test is none")
	}
	for want, e := range map[string]Estate{
		"":               {Init: resending()},
		"io_uring":       {Init: resending(), Uring: true},
		"restart":        {Init: resending(), Remount: true},
		"cannot repeat":  {Init: make([]byte, 104)},
		"cannot repeat ": {},
	} {
		got := (&keep{estate: e}).cannotGoOn()
		if (got == "") != (want == "") || !strings.Contains(got, strings.TrimSpace(want)) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestLastWord: what a server has said counts when it has ended, and not to have
// said anything is a death.
func TestLastWord(t *testing.T) {
	for said, want := range map[string]byte{"": 0, "l": wordLeaving, "d": wordDone, "ld": wordDone} {
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		s := &server{control: ours}
		s.listen()
		k := &Keeper{control: theirs}
		for _, word := range []byte(said) {
			if err := k.say(word); err != nil {
				t.Fatal(err)
			}
		}
		theirs.Close()
		if got := s.lastWord(); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
	s := stillborn()
	<-s.ended
	if got := s.lastWord(); got != 0 {
		t.Errorf("one that was never there said %q", got)
	}
}

// TestKeeperLost: a server notices the end of its keeper.
func TestKeeperLost(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	k := Join(ours)
	select {
	case <-k.Lost():
		t.Fatal("lost at once")
	case <-time.After(10 * time.Millisecond):
	}
	theirs.Close()
	select {
	case <-k.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("not noticed")
	}
	if k.Dismiss() == nil {
		t.Error("a keeper that is gone was told")
	}
}

// TestReplacedProgram: a program that is gone from its path is replaced by the
// one that runs.
func TestReplacedProgram(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{me: me, "/none/such": "/proc/self/exe"} {
		if cmd := command([]string{path, "keep", "x"}, nil); cmd.Path != want || !slices.Equal(cmd.Args, []string{"unio", "keep", "x"}) || !cmd.SysProcAttr.Setsid {
			t.Errorf("%s: %s %q", path, cmd.Path, cmd.Args)
		}
	}
}

// TestLegacy: a server that was not started by a keeper, or that takes a
// connection over, mounts as it was told and takes nothing away.
func TestLegacy(t *testing.T) {
	var none *Legacy
	heir := &Legacy{Device: true}
	for _, l := range []*Legacy{none, heir} {
		if err := l.ClearMount(); err != nil {
			t.Error(err)
		}
		if got := l.Transport(transport.Dev); got != transport.Dev {
			t.Errorf("dev became %s", got)
		}
	}
	if got := none.Transport(transport.Uring); got != transport.Uring {
		t.Errorf("uring became %s", got)
	}
	gone := &Legacy{Estate: Estate{Dir: t.TempDir()}}
	if err := gone.ClearMount(); err != nil {
		t.Errorf("where nothing is mounted: %v", err)
	}
}

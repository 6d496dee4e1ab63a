package transport

import (
	"testing"
	"time"
)

// TestTurn checks that a busy reader passes through the scheduler before the
// monitor loses patience, and not with each request.
func TestTurn(t *testing.T) {
	const request, patience = 10 * time.Microsecond, 10 * time.Millisecond
	var own turn
	turns, last := 0, time.Duration(0)
	for now := time.Duration(0); now < time.Second; now += request {
		if !own.due(now) {
			continue
		}
		if now-last >= patience {
			t.Errorf("%v passed without a turn", now-last)
		}
		turns, last = turns+1, now
	}
	if most := int(time.Second / (patience / 2)); turns > most {
		t.Errorf("%d turns in a second, want at most %d", turns, most)
	}
	if own.take(2 * time.Second); own.last != 2*time.Second {
		t.Error("no turn after a second of rest")
	}
}

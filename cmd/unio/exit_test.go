package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		code int
		said string
	}{
		{nil, exitOK, ""},
		{fmt.Errorf("pull: %w", context.Canceled), exitInterrupted, ""},
		{errors.New("signal: killed"), exitInterrupted, "signal: killed"},
		{&exitError{code: 1}, 1, ""}, // of the program that was run
		{withCode(125, errors.New("no such image")), 125, "no such image"},
	} {
		var said strings.Builder
		if code := report(&said, interrupted(tc.err)); code != tc.code {
			t.Errorf("%v: exit code %d, not %d", tc.err, code, tc.code)
		}
		if got := said.String(); !strings.Contains(got, tc.said) || tc.said == "" && got != "" {
			t.Errorf("%v: said %q", tc.err, got)
		}
	}
}

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// defaultDetachKeys leave a container (docker's).
const defaultDetachKeys = "ctrl-p,ctrl-q"

func detachKeysFlag() cli.Flag {
	return &cli.StringFlag{Name: "detach-keys", Usage: "Override the key sequence for detaching a container"}
}

// detachKeys reads --detach-keys: letters, and ctrl- with a letter or one of
// @ [ \ ] ^ _, separated by commas (moby/term, ascii.go).
func detachKeys(c *cli.Context) ([]byte, error) {
	text := defaultDetachKeys
	if c.IsSet("detach-keys") {
		text = c.String("detach-keys")
	}
	var keys []byte
	if text == "" {
		return nil, nil
	}
	for _, name := range strings.Split(text, ",") {
		key, err := parseKey(name)
		if err != nil {
			return nil, fmt.Errorf("invalid detach keys (%s): %w", text, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(name string) (byte, error) {
	if len(name) == 1 {
		return name[0], nil
	}
	letter, ok := strings.CutPrefix(name, "ctrl-")
	switch {
	case !ok || len(letter) != 1:
	case letter[0] >= 'a' && letter[0] <= 'z':
		return letter[0] - 'a' + 1, nil
	case strings.Contains("@[\\]^_", letter):
		return letter[0] & 0x1f, nil
	}
	return 0, fmt.Errorf("Unknown character: '%s'", name) //lint:ignore ST1005 docker's words
}

// keyReader reads input and looks for the keys that detach. What may be their
// beginning is held back until it is known what it is.
type keyReader struct {
	in   io.Reader
	keys []byte
	held int // keys that were typed so far
	rest []byte
}

// Read gives errDetached once the keys are complete.
func (r *keyReader) Read(p []byte) (int, error) {
	if len(r.rest) > 0 {
		n := copy(p, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	if len(r.keys) == 0 {
		return r.in.Read(p)
	}
	for {
		buf := make([]byte, len(p))
		n, err := r.in.Read(buf)
		var out []byte
		for _, b := range buf[:n] {
			if b == r.keys[r.held] {
				if r.held++; r.held == len(r.keys) {
					return copy(p, out), errDetached
				}
				continue
			}
			out = append(out, r.keys[:r.held]...)
			r.held = 0
			if b == r.keys[0] && len(r.keys) > 1 {
				r.held = 1
				continue
			}
			out = append(out, b)
		}
		if len(out) > 0 || err != nil {
			m := copy(p, out)
			r.rest = out[m:]
			return m, err
		}
	}
}

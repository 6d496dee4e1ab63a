package parity

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// masker replaces what two runs cannot have in common by words that they can:
// the nth ID that a side shows becomes ID‹n›. It lives as long as a script, so
// an ID that comes back keeps its number.
type masker struct {
	ids   map[string]int // by the first 12 digits
	words []rewriter     // fixed for the side
	id    *regexp.Regexp
	gaps  *regexp.Regexp
}

// rewriter replaces what an expression matches.
type rewriter struct {
	expr *regexp.Regexp
	with string
}

func (r rewriter) apply(s string) string { return r.expr.ReplaceAllString(s, r.with) }

const (
	ago   = `(?:Less than a second|About an? (?:minute|hour)|\d+ (?:second|minute|hour|day|week|month|year)s?)`
	clock = `\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?`
)

// newMasker makes the masker of a side. dir is the side's work folder, which
// paths in messages may name.
func newMasker(side, dir string) *masker {
	m := &masker{ids: map[string]int{}, id: regexp.MustCompile(idExpr), gaps: regexp.MustCompile(gapsExpr), words: []rewriter{
		{regexp.MustCompile(regexp.QuoteMeta(dir)), "‹dir›"},
		{regexp.MustCompile(regexp.QuoteMeta(filepath.Join(filepath.Dir(dir), "home"))), "‹home›"},
		{regexp.MustCompile(clock + `(?:Z|[+-]\d\d:\d\d| [+-]\d{4} [A-Z]+)`), "‹time›"},
		{regexp.MustCompile(ago + ` ago`), "‹ago›"},
		{regexp.MustCompile(`\bUp ` + ago), "Up ‹ago›"},
	}}
	switch side {
	case "docker":
		// What the daemon says, unio says itself.
		m.words = append(m.words, rewriter{regexp.MustCompile(`/[^" ]*/overlay2/[0-9a-f]{64}`), "‹overlay2›"},
			rewriter{regexp.MustCompile(`(?m)Error response from daemon: `), "Error: "})
	case "unio":
		m.words = append(m.words, rewriter{regexp.MustCompile(`/[^" :]*/blobs/sha256/[0-9a-f]{64}`), "‹blob›"},
			rewriter{regexp.MustCompile(`\bunio\b`), "docker"})
	}
	return m
}

const (
	idExpr   = `\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b`
	gapsExpr = ` {2,}|\t+`
)

// hide adds a word to those that are replaced.
func (m *masker) hide(word, as string) {
	m.words = append(m.words, rewriter{regexp.MustCompile(regexp.QuoteMeta(word)), as})
}

// mask masks one text. Where a time was masked, columns cannot stand in the
// same places any more: there, runs of blanks count as one gap.
func (m *masker) mask(s string) string {
	for _, w := range m.words {
		s = w.apply(s)
	}
	s = m.id.ReplaceAllStringFunc(s, m.numbered)
	if strings.Contains(s, "‹ago›") || strings.Contains(s, "‹time›") {
		s = m.gaps.ReplaceAllString(s, "  ")
	}
	return s
}

func (m *masker) numbered(id string) string {
	n, ok := m.ids[id[:12]]
	if !ok {
		n = len(m.ids) + 1
		m.ids[id[:12]] = n
	}
	if len(id) == 12 {
		return fmt.Sprintf("ID‹%d›", n)
	}
	return fmt.Sprintf("LONGID‹%d›", n)
}

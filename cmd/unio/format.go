package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"text/template"
	"unicode/utf8"

	"unio/cmd/unio/terminal"
)

// missing stands where there is no name.
const missing = "<none>"

// templateFuncs are the functions that docker gives to --format templates.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json":     toJSON,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
		"println":  fmt.Sprintln,
	}
}

// toJSON is v as one line of JSON, without HTML escapes.
func toJSON(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// title makes the first letter of each word a capital.
func title(s string) string {
	space := true
	return strings.Map(func(r rune) rune {
		was := space
		space = r == ' ' || r == '\t' || r == '\n'
		if was {
			return []rune(strings.ToUpper(string(r)))[0]
		}
		return r
	}, s)
}

func pad(s string, before, after int) string {
	if s == "" {
		return ""
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

func truncate(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// ellipsis cuts s at n characters; the last one then is "…".
func ellipsis(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return truncate(s, n-1) + "…"
}

// headerFuncs are the same functions for the header of a table, whose names
// they leave alone.
func headerFuncs() template.FuncMap {
	same := func(v string, _ ...any) string { return v }
	return template.FuncMap{
		"json": same, "split": same, "join": same, "title": same, "lower": same,
		"upper": same, "pad": same, "truncate": same, "println": same,
	}
}

// listing is what a list command prints: rows that are values of one type,
// whose methods and fields are what templates may use.
type listing struct {
	// standard is the template of the table when no format is given.
	standard string
	// quiet is the template of -q.
	quiet string
	// raw and rawQuiet are what "raw" stands for; empty: nothing special.
	raw, rawQuiet string
	// headers names the columns, by field.
	headers map[string]string
	// whole keeps a table on a terminal from being cut: --no-trunc.
	whole bool
}

// print writes rows in a format as docker's --format has it: empty or "table"
// for the standard table, "table TEMPLATE", "json", or a template.
func (t *listing) print(w io.Writer, format string, quiet bool, rows []any) error {
	switch {
	case quiet && (format == "" || format == "table"):
		format = t.quiet
	case format == "" || format == "table":
		format = "table " + t.standard
	case format == "json":
		return printJSON(w, rows)
	case format == "raw" && t.raw != "" && quiet:
		format = t.rawQuiet
	case format == "raw" && t.raw != "":
		format = t.raw
	}
	text, isTable := strings.CutPrefix(format, "table ")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(text, " "))
	tmpl, err := template.New("").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return templateError(err)
	}
	if !isTable {
		return eachRow(w, tmpl, rows)
	}
	header, err := template.New("").Funcs(headerFuncs()).Parse(text)
	if err != nil {
		return templateError(err)
	}
	return writeTable(w, t.whole, func(w io.Writer) error {
		if err := eachRow(w, header, []any{t.headers}); err != nil {
			return err
		}
		return eachRow(w, tmpl, rows)
	})
}

// writeTable lays out what write writes: lines of cells with tabs between
// them. A terminal gets a table that fits it, unless it is to be whole.
func writeTable(w io.Writer, whole bool, write func(io.Writer) error) error {
	var text strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	var rows [][]string
	for line := range strings.Lines(text.String()) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	width := math.MaxInt
	if !whole && terminal.Is(w) {
		width, _ = terminal.Size(w)
	}
	return terminal.WriteTable(w, width, rows)
}

// eachRow runs the template on each row, one line each.
func eachRow(w io.Writer, tmpl *template.Template, rows []any) error {
	for _, row := range rows {
		var b bytes.Buffer
		if err := ofRow(tmpl, row).Execute(&b, row); err != nil {
			return templateError(err)
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// ofRow makes the template's json show the row itself by its fields, which
// are methods.
func ofRow(tmpl *template.Template, row any) *template.Template {
	if reflect.ValueOf(row).Kind() != reflect.Pointer {
		return tmpl
	}
	return tmpl.Funcs(template.FuncMap{"json": func(v any) (string, error) {
		if v == row {
			return rowJSON(row)
		}
		return toJSON(v)
	}})
}

// rowJSON is a row as an object. Docker escapes what is special in HTML here,
// though not where a template asks for the JSON of a field.
func rowJSON(row any) (string, error) {
	line, err := json.Marshal(fieldsOf(row))
	return string(line), err
}

// templateError is what docker's client says of a bad --format.
func templateError(err error) error {
	return plainly(fmt.Errorf("template parsing error: %w", err))
}

// printJSON writes each row as an object of what its methods without
// arguments return.
func printJSON(w io.Writer, rows []any) error {
	for _, row := range rows {
		line, err := rowJSON(row)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// fielder is a row whose fields in JSON are not those of its table.
type fielder interface{ fields() map[string]any }

func fieldsOf(row any) map[string]any {
	if f, ok := row.(fielder); ok {
		return f.fields()
	}
	fields := map[string]any{}
	v := reflect.ValueOf(row)
	for i := range v.NumMethod() {
		if m := v.Method(i); m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
			fields[v.Type().Method(i).Name] = m.Call(nil)[0].Interface()
		}
	}
	return fields
}

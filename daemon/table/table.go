// Package table prints tables to a terminal. Cells may hold what other nodes
// wrote: they cannot begin a line or cell of their own, nor send the terminal a
// command.
package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table is a table in the making; Flush writes it.
type Table struct {
	out  io.Writer
	text bytes.Buffer
	tabs *tabwriter.Writer // to text
}

// New begins a table on w, with a line of headings unless there are none.
func New(w io.Writer, headings ...string) *Table {
	t := &Table{out: w}
	t.tabs = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	if len(headings) > 0 {
		t.Row(headings...)
	}
	return t
}

// Row adds a line. Give every line the same number of cells: a missing one
// ends its column, and a new one begins below.
func (t *Table) Row(cells ...string) {
	clean := make([]string, len(cells))
	for i, c := range cells {
		clean[i] = Clean(c)
	}
	fmt.Fprintln(t.tabs, strings.Join(clean, "\t")) // a buffer takes everything
}

// Flush writes the table.
func (t *Table) Flush() error {
	t.tabs.Flush()
	var b strings.Builder
	for line := range strings.Lines(t.text.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

// Clean makes text safe for one line of a terminal: control characters (of
// ASCII and Latin-1) become spaces.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

package table

import (
	"errors"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	table := New(&b, "NAME", "STATE", "NOTES")
	table.Row("a", "up", "")
	table.Row("a long name", "", "what\nhappened\tthere: \x1b[2J\u009b31m")
	table.Row("", "down", "äöü…")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME         STATE  NOTES\n" +
		"a            up\n" +
		"a long name         what happened there:  [2J 31m\n" +
		"             down   äöü…\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestTableTellsWhenItCannotBeWritten(t *testing.T) {
	table := New(broken{}, "NAME")
	if err := table.Flush(); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

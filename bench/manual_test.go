package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual has the flags of each command, and no others.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../configs/man/weft-bench.1")
	if err != nil {
		t.Fatal(err)
	}
	flags := func(pattern, text string) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return names
	}
	rest := string(page)
	for _, command := range []string{"demo", "run", "report", "compare"} {
		_, after, ok := strings.Cut(rest, "\n.It Cm "+command+"\n")
		if !ok {
			t.Fatalf("%s is not there, or not in the order of --help", command)
		}
		rest = after
		entry, _, _ := strings.Cut(after, "\n.El\n")
		var help strings.Builder
		dispatch(t.Context(), []string{command, "--help"}, io.Discard, &help)
		var listed []string
		for line := range strings.Lines(entry) {
			if strings.HasPrefix(line, ".It ") {
				listed = append(listed, flags(`\bFl Fl ([a-z0-9-]+)`, line)...)
			}
		}
		slices.Sort(listed)
		if takes := flags(`(?m)^  -([a-z0-9-]+)`, help.String()); len(takes) == 0 || !slices.Equal(listed, takes) {
			t.Errorf("%s takes %q, and the manual has %q", command, takes, listed)
		}
	}
}

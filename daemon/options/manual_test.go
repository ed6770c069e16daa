package options

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// manual is the daemon's page, in mdoc(7). The options in it stand between
// these lines.
const (
	manual      = "../../configs/man/weftd.8"
	optionsFrom = ".\\\" From here to the end of the options: go test ./daemon/options -update\n"
	optionsTo   = ".\\\" End of the options\n"
)

// The manual has every option, with what --help says of it.
func TestManual(t *testing.T) {
	have, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := bytes.Cut(have, []byte(optionsFrom))
	_, after, ended := bytes.Cut(rest, []byte(optionsTo))
	if !begun || !ended {
		t.Fatalf("%s does not have the lines\n%s%s", manual, optionsFrom, optionsTo)
	}
	var p parser
	want := bytes.Join([][]byte{before, []byte(optionsFrom), mdoc(p.flags()), []byte(optionsTo), after}, nil)
	if *update {
		if err := os.WriteFile(manual, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(have, want) {
		t.Errorf("%s does not have the options as they are; `go test ./daemon/options -update` writes them anew", manual)
	}
}

// mdoc writes every option under its heading.
func mdoc(s *Set) []byte {
	var b bytes.Buffer
	group := ""
	for _, f := range s.flags {
		if f.group != group {
			if group != "" {
				b.WriteString(".El\n")
			}
			group = f.group
			fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", group)
		}
		b.WriteString(".It Fl ")
		if len(f.name) > 1 {
			b.WriteString("Fl ")
		}
		b.WriteString(f.name)
		if f.arg != "" {
			b.WriteString(" Ar " + f.arg)
		}
		if !f.noEnv {
			names := f.variables()
			b.WriteString(" Pq Ev " + names[len(names)-1])
		}
		b.WriteString("\n")
		if f.usage != "" {
			b.WriteString(roff(describe(f)) + "\n")
		}
	}
	b.WriteString(".El\n")
	return b.Bytes()
}

// roff escapes a line of text, none of which begins with a dot or an
// apostrophe. Dashes that are typed are not hyphens.
func roff(text string) string {
	words := strings.Fields(strings.NewReplacer(`\`, `\e`, "`", `\(ga`).Replace(text))
	for i, w := range words {
		if strings.HasPrefix(w, "--") {
			words[i] = strings.ReplaceAll(w, "-", `\-`)
		}
	}
	return strings.Join(words, " ")
}

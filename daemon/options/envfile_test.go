package options

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write anew what is made of the options")

// environmentFile is where the packages' /etc/default/weftd comes from.
const environmentFile = "../../configs/systemd/weftd.env"

// The environment file of the systemd unit has every option, with what --help
// says of it.
func TestEnvironmentFile(t *testing.T) {
	var p parser
	want := environment(p.flags())
	if *update {
		if err := os.WriteFile(environmentFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(environmentFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s does not have the options as they are; `go test ./daemon/options -update` writes it anew", environmentFile)
	}
}

// environment writes every option as a variable with its default.
func environment(s *Set) []byte {
	var b bytes.Buffer
	b.WriteString(`# Options of weftd, read by weftd.service. After a change: systemctl restart weftd
#
# Without its # a line is in force; as they stand here they have the defaults, and
# an empty one is not set. A password makes this file a secret: chmod 600.
`)
	group := ""
	for _, f := range s.flags {
		if f.noEnv || f.group == groupIgnored {
			continue
		}
		if f.group != group {
			group = f.group
			fmt.Fprintf(&b, "\n### %s\n", strings.TrimSuffix(group, " (flags of flannel)"))
		}
		fmt.Fprintf(&b, "\n%s#%s=%s\n", comment(f.usage), f.variables()[0], f.def)
	}
	return b.Bytes()
}

// comment breaks a text into lines of less than 80 bytes.
func comment(text string) string {
	var b strings.Builder
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 79 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

// Every line of the file is an option that the daemon takes, and as it stands
// it changes nothing.
func TestEnvironmentFileInForce(t *testing.T) {
	text, err := os.ReadFile(environmentFile)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(text)) {
		entry := strings.TrimPrefix(strings.TrimSpace(line), "#")
		if !strings.HasPrefix(entry, WeftPrefix) {
			continue
		}
		count++
		var base []string
		if strings.HasPrefix(entry, "WEFTD_ETCD_EMBEDDED_") {
			base = []string{"WEFTD_ETCD_EMBEDDED=true"}
		}
		without, err := Parse(nil, base)
		if err != nil {
			t.Fatal(err)
		}
		with, err := Parse(nil, append(base, entry))
		if err != nil {
			t.Error(err)
		} else if !reflect.DeepEqual(with, without) {
			t.Errorf("%s changes\n%+v\nto\n%+v", entry, *without, *with)
		}
	}
	if count < 30 {
		t.Errorf("only %d options found", count)
	}
}

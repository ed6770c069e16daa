package man_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The manual of the CNI plugin has each option of docs/cni.md. Those of the
// programs' manuals are compared where the programs are.
func TestCNIOptions(t *testing.T) {
	page, err := os.ReadFile("weft-cni.8")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n| option | default | |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	names := regexp.MustCompile("(?m)^\\| `(?:delegate\\.|ipam\\.)?([a-zA-Z]+)`").FindAllStringSubmatch(table, -1)
	if len(names) < 10 {
		t.Fatalf("docs/cni.md has only %d options", len(names))
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^\.(It )?Cm ` + name[1] + `\b`).Match(page) {
			t.Errorf("%s is not in the manual", name[1])
		}
	}
}

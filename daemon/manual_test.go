package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual has each command with its flags, and no others; those that the
// daemon has too may stand there (package options sees to these).
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../configs/man/weftd.8")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(page), "\n.Sh COMMANDS\n")
	commands, options, _ := strings.Cut(commands, "\n.Sh OPTIONS\n")
	entries := strings.Split(commands, "\n.It Cm ")
	flags := func(pattern, text string) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		return names
	}
	const inPage, inHelp = `\bFl (?:Fl )?([a-z0-9-]+)`, `(?m)^  --([a-z0-9-]+)`
	shared := append(flags(inPage, entries[0]), flags(inPage, options)...)

	for _, line := range commandLines {
		if slices.ContainsFunc(commandLines, func(other string) bool { return strings.HasPrefix(other, line+" ") }) {
			continue // no command by itself
		}
		var entry string // both of docker-opts
		for _, e := range entries[1:] {
			if strings.HasPrefix(e, line+" ") || strings.HasPrefix(e, line+"\n") {
				entry += e
			}
		}
		if entry == "" {
			t.Errorf("weftd %s is not there", line)
			continue
		}
		_, help, _ := run(t, append(strings.Fields(line), "--help")...)
		takes, told := flags(inHelp, help), flags(inPage, entry)
		for _, name := range takes {
			if !slices.Contains(told, name) && !slices.Contains(shared, name) {
				t.Errorf("weftd %s: --%s is not there", line, name)
			}
		}
		for _, name := range told {
			if !slices.Contains(takes, name) && name != "help" {
				t.Errorf("weftd %s does not take --%s", line, name)
			}
		}
	}
}

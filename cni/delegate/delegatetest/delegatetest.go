// Package delegatetest makes plugins that write down how they are called and
// answer as they are told, and checks errors of CNI.
package delegatetest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// Call is one call of a plugin.
type Call struct {
	Plugin, Verb        string
	ContainerID, IfName string
	NetNS, Args, Path   string
	Conf                string // as it came, on one line
}

// Plugins are in a folder that serves as CNI_PATH. Unless told otherwise, they
// answer ADD with an empty result and every other verb by nothing. VERSION is
// not written down.
type Plugins struct {
	t   testing.TB
	Dir string
}

// A line of calls has the environment, tab by tab, and the configuration.
const script = `#!/bin/sh
dir=${0%/*}
name=${0##*/}
if [ "$CNI_COMMAND" = VERSION ]; then
	exec cat "$dir/version"
fi
conf=$(cat | tr -d '\n\t')
printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_IFNAME" "$CNI_NETNS" "$CNI_ARGS" "$CNI_PATH" "$conf" >> "$dir/calls"
if [ -p "$dir/$name.$CNI_COMMAND.hold" ]; then
	read -r _ < "$dir/$name.$CNI_COMMAND.hold"
fi
if [ -e "$dir/$name.$CNI_COMMAND.error" ]; then
	cat "$dir/$name.$CNI_COMMAND.error"
	exit 1
fi
[ "$CNI_COMMAND" != ADD ] || cat "$dir/result"
`

// New makes plugins of the names.
func New(t testing.TB, names ...string) *Plugins {
	t.Helper()
	p := &Plugins{t, t.TempDir()}
	for _, name := range names {
		p.write(name, script, 0o755)
	}
	p.Result(`{}`)
	p.Versions("1.1.0")
	return p
}

// Result is what ADD returns from now on.
func (p *Plugins) Result(result string) { p.write("result", result, 0o644) }

// Versions is what VERSION returns from now on: 0.4.0 and another one.
func (p *Plugins) Versions(newest string) {
	p.write("version", `{"cniVersion": "`+newest+`", "supportedVersions": ["0.4.0", "`+newest+`"]}`, 0o644)
}

// Fail lets a plugin answer a verb with an error, until it is "".
func (p *Plugins) Fail(plugin, verb, answer string) {
	p.t.Helper()
	name := plugin + "." + verb + ".error"
	if answer != "" {
		p.write(name, answer, 0o644)
	} else if err := os.Remove(filepath.Join(p.Dir, name)); err != nil {
		p.t.Fatal(err)
	}
}

// Hold lets a plugin wait when it is called with a verb. That await returns
// means that it does, and the function it returns lets it go on.
func (p *Plugins) Hold(plugin, verb string) (await func() (letGo func())) {
	p.t.Helper()
	name := filepath.Join(p.Dir, plugin+"."+verb+".hold")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return func() func() {
		p.t.Helper()
		f, err := os.OpenFile(name, os.O_WRONLY, 0) // returns when it is opened for reading
		err = errors.Join(err, os.Remove(name))
		if err != nil {
			p.t.Fatal(err)
		}
		return func() { f.Close() }
	}
}

// WantError checks for an error of CNI with a code and with all parts in its
// text.
func WantError(t testing.TB, err error, code uint, parts ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %+v, want code %d", err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("error %q does not say %q", e, part)
		}
	}
}

func (p *Plugins) write(name, content string, mode fs.FileMode) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(content), mode); err != nil {
		p.t.Fatal(err)
	}
}

// Calls returns the calls since it was last asked.
func (p *Plugins) Calls() []Call {
	p.t.Helper()
	path := filepath.Join(p.Dir, "calls")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	var calls []Call
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 8 || !json.Valid([]byte(f[7])) {
			p.t.Fatalf("a plugin wrote %q", line)
		}
		calls = append(calls, Call{f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]})
	}
	return calls
}

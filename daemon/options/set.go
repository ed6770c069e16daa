package options

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Prefixes of the environment variables that stand for flags. A variable with
// WeftPrefix may stand for any flag, one with FlannelPrefix for those that
// flanneld has too.
const (
	WeftPrefix    = "WEFTD_"
	FlannelPrefix = "FLANNELD_"
)

// Set is a set of flags, each of which may be given on the command line, with
// one dash or two, or else by an environment variable.
type Set struct {
	fs    *flag.FlagSet
	flags []info // in the order of --help
	group string // heading of the flags being added

	given map[string]string // flag name → how the user gave it: "--iface" or "WEFTD_IFACE"
	args  []string
	bad   error // what the last flag with a bad value had to say
}

// info is what --help and the environment need to know of a flag, beyond
// what the flag package keeps.
type info struct {
	name    string
	group   string
	arg     string // placeholder of the value; empty for a boolean
	def     string
	usage   string
	flannel bool // flanneld has it too
	noEnv   bool // on the command line only; a variable of that name is not read
}

// NewSet returns an empty set for the command of that name.
func NewSet(name string) *Set {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	// The caller prints errors, once, and usage when asked for it.
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return &Set{fs: fs, given: map[string]string{}}
}

// Bool adds a boolean flag that can be given on the command line only, for
// subcommands.
func (s *Set) Bool(p *bool, name, usage string) {
	add(s, p, info{name: name, usage: usage, noEnv: true}, parseBool)
}

// String adds a flag for any text that can be given on the command line only,
// for subcommands.
func (s *Set) String(p *string, name, arg, def, usage string) {
	add(s, p, info{name: name, arg: arg, def: def, usage: usage, noEnv: true}, parseText)
}

// Parse sets the flags from the command line, and those not given there from
// the environment, which has the form of os.Environ. Flags and other
// arguments may be mixed; "--" ends the flags. It returns flag.ErrHelp where
// -h or --help was given.
func (s *Set) Parse(args, environ []string) error {
	for {
		s.bad = nil
		if err := s.fs.Parse(args); err != nil {
			return cmp.Or(s.bad, err)
		}
		rest := s.fs.Args()
		if len(rest) == 0 {
			break
		}
		if taken := len(args) - len(rest); taken > 0 && args[taken-1] == "--" {
			s.args = append(s.args, rest...)
			break
		}
		s.args = append(s.args, rest[0])
		args = rest[1:]
	}
	s.fs.Visit(func(f *flag.Flag) { s.given[f.Name] = "--" + f.Name })
	return s.parseEnviron(environ)
}

// parseEnviron sets the flags that were not given on the command line. An
// empty variable counts as not set, as with flanneld.
func (s *Set) parseEnviron(environ []string) error {
	vars := variables(environ)
	for _, f := range s.flags {
		if s.given[f.name] != "" || f.noEnv {
			continue
		}
		for _, name := range f.variables() {
			text := vars[name]
			if text == "" {
				continue
			}
			s.given[f.name] = name
			if err := s.fs.Set(f.name, text); err != nil {
				return s.bad
			}
			break
		}
	}
	return nil
}

// Args returns the arguments that are not flags.
func (s *Set) Args() []string { return s.args }

// Given tells whether the flag was given, on the command line or by the
// environment.
func (s *Set) Given(name string) bool { return s.given[name] != "" }

// origin names the flag the way the user gave it, for an error message.
func (s *Set) origin(name string) string {
	if o := s.given[name]; o != "" {
		return o
	}
	return "--" + name
}

// unknownVariables returns the names of variables that have one of the
// prefixes but stand for no flag: most likely somebody's typing error.
func (s *Set) unknownVariables(environ []string) []string {
	known := map[string]bool{}
	for _, f := range s.flags {
		for _, name := range f.variables() {
			known[name] = true
		}
	}
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := strings.HasPrefix(name, WeftPrefix) || strings.HasPrefix(name, FlannelPrefix)
		if ours && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// variables returns the names of a flag's variables, the winning one first.
func (f info) variables() []string {
	suffix := strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
	if f.flannel {
		return []string{WeftPrefix + suffix, FlannelPrefix + suffix}
	}
	return []string{WeftPrefix + suffix}
}

func variables(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		vars[name] = text
	}
	return vars
}

// add puts a flag into the set; its default goes through the same parser as
// the user's text.
func add[T any](s *Set, p *T, f info, parse func(string) (T, error)) {
	set := func(text string) error {
		v, err := parse(text)
		if err == nil {
			*p = v
		}
		return err
	}
	s.register(f, set, any(p))
}

// addList is add for a flag that can be repeated: every use appends.
func addList[T any](s *Set, p *[]T, f info, parse func(string) ([]T, error)) {
	set := func(text string) error {
		v, err := parse(text)
		*p = append(*p, v...)
		return err
	}
	s.register(f, set, any(p))
}

func (s *Set) register(f info, set func(string) error, target any) {
	if f.def != "" {
		if err := set(f.def); err != nil {
			panic("default of --" + f.name + ": " + err.Error()) // a slip in this package, found by any test
		}
	}
	_, isBool := target.(*bool)
	f.group = s.group
	s.flags = append(s.flags, f)
	// The flag package's own message is not used: it prints the value, which
	// may be a URL with a password in it.
	setOrExplain := func(text string) error {
		err := set(text)
		if err != nil {
			s.bad = fmt.Errorf("invalid value %s for %s: %w", printable(text), s.origin(f.name), err)
		}
		return err
	}
	s.fs.Var(value{setOrExplain, isBool}, f.name, f.usage)
}

// printable quotes what the user wrote, unless it may be a URL with a password.
func printable(text string) string {
	if strings.Contains(text, "@") {
		return hidden
	}
	return strconv.Quote(text)
}

// value adapts a function to flag.Value.
type value struct {
	set    func(string) error
	isBool bool
}

func (v value) Set(text string) error { return v.set(text) }
func (v value) String() string        { return "" } // --help prints info.def
func (v value) IsBoolFlag() bool      { return v.isBool }

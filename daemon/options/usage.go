package options

import (
	"fmt"
	"io"
)

// Usage prints the help of the daemon.
func Usage(w io.Writer) {
	var p parser
	fmt.Fprint(w, `weftd connects the containers of this host with those of other hosts.

Usage:
  weftd [flags]          run the daemon
  weftd COMMAND [flags]  cleanup, config, docker-network, docker-opts, etcd,
                         lease, status or version;
                         weftd COMMAND --help tells more

A flag may have one dash or two. It may also be given as an environment
variable, named in brackets below; for each FLANNELD_ name there is a WEFTD_
one, which wins where both are set. The command line wins over both.
`)
	p.flags().Usage(w)
}

// Usage prints the flags, under the headings they were added with.
func (s *Set) Usage(w io.Writer) {
	group := ""
	for i, f := range s.flags {
		if i == 0 || f.group != group {
			group = f.group
			fmt.Fprintf(w, "\n%s:\n", heading(group))
		}
		fmt.Fprint(w, "  --", f.name)
		if f.arg != "" {
			fmt.Fprint(w, " ", f.arg)
		}
		if !f.noEnv {
			names := f.variables()
			fmt.Fprintf(w, "  [%s]", names[len(names)-1])
		}
		fmt.Fprintln(w)
		if f.usage != "" || f.def != "" {
			fmt.Fprintf(w, "        %s\n", describe(f))
		}
	}
}

func heading(group string) string {
	if group == "" {
		return "Flags"
	}
	return group
}

// describe is a flag's explanation with its default, unless that is off.
func describe(f info) string {
	if f.def == "" || f.def == "false" {
		return f.usage
	}
	return f.usage + " (default " + f.def + ")"
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/table"
)

// Exit statuses of subcommands. `weftd status` has its own.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not work
	exitUsage  = 2 // the command line makes no sense

	// exitConfig is the daemon's exitUsage: EX_CONFIG of sysexits.h, by which
	// systemd knows not to start it again. Go's runtime ends a panic with 2.
	exitConfig = 78
)

// fail reports an error the one time it is reported.
func fail(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "weftd: %s\n", table.Clean(err.Error()))
	return status
}

func warn(stderr io.Writer, text string) {
	fmt.Fprintf(stderr, "weftd: warning: %s\n", table.Clean(text))
}

// parse reads a subcommand's command line, which must have from min to max
// arguments beside the flags. Where it returns false the command is over, with
// that status: the line was wrong, or help was asked for.
func parse(set *options.Set, usage string, args []string, min, max int, stdout, stderr io.Writer) (status int, ok bool) {
	err := set.Parse(args, os.Environ())
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		set.Usage(stdout)
		return exitOK, false
	}
	if err == nil {
		switch n := len(set.Args()); {
		case n < min:
			err = errors.New("an argument is missing")
		case n > max:
			err = fmt.Errorf("unexpected argument %q", set.Args()[max])
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "weftd: %v\n%s", err, usage)
		return exitUsage, false
	}
	return exitOK, true
}

// group runs the command that args name, of those that share a first word.
func group(ctx context.Context, usage string, commands map[string]command, args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if len(args) > 0 && commands[args[0]] != nil {
		return commands[args[0]](ctx, args[1:], stdout, stderr)
	}
	err := errors.New("the command is not complete")
	if len(args) > 0 {
		err = fmt.Errorf("unknown command %q", args[0])
	}
	fmt.Fprintf(stderr, "weftd: %v\n%s", err, usage)
	return exitUsage
}

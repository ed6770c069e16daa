// Weft-bench shows weft at work on one machine, in network namespaces.
//
// It needs root and Linux, and the weftd binary beside its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/weftnet/weft/bench/demo"
)

const usage = `usage: weft-bench demo [flags]

  demo   three hosts on one machine, joined by weft: ping, TCP and UDP between
         their containers, with plain routing beside it for comparison

weft-bench demo --help lists the flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// dispatch runs the command that args name and returns the exit status.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "demo":
		return runDemo(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "weft-bench: unknown command %q\n%s", args[0], usage)
	return 2
}

func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o demo.Options
	flags := flag.NewFlagSet("weft-bench demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Weftd, "weftd", besideThis("weftd"), "the weftd binary")
	flags.BoolVar(&o.Keep, "keep", false, "leave everything running at the end, to look around in")
	clean := flags.Bool("clean", false, "remove what --keep, or a crash, left")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "weft-bench demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	run := func() error { return demo.Run(ctx, o, stdout) }
	if *clean {
		run = func() error { return demo.Clean(stdout) }
	}
	err := run()
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted:", err)
		return 130 // as a shell has it for SIGINT
	default:
		fmt.Fprintln(stderr, "demo: failed:", err)
		return 1
	}
}

// besideThis returns the path of a program in the folder of this one.
func besideThis(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

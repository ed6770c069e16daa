// Weft-bench shows weft at work on one machine, in network namespaces, and
// measures it against other ways to join containers.
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
	"github.com/weftnet/weft/bench/generator"
)

const usage = `usage: weft-bench COMMAND [flags]

  demo     three hosts on one machine, joined by weft: ping, TCP and UDP between
           their containers, with plain routing beside it for comparison
  run      measure weft's udp against kernel VXLAN and plain routing, in turns;
           --quick takes less than two minutes
  report   tables, or a page with charts, of earlier runs
  compare  what became better or worse from one run to another, beyond noise

weft-bench COMMAND --help lists the flags.
`

// generatorCommand is how run starts the processes that make its traffic.
const generatorCommand = "generator"

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
	case "run":
		return runBenchmark(ctx, args[1:], stdout, stderr)
	case "report":
		return runReport(args[1:], stdout, stderr)
	case "compare":
		return runCompare(args[1:], stdout, stderr)
	case generatorCommand:
		return generator.Main(args[1:])
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
	if status, done := parse(flags, args, stderr); done {
		return status
	}
	run := func() error { return demo.Run(ctx, o, stdout) }
	if *clean {
		run = func() error { return demo.Clean(stdout) }
	}
	return exitStatus(ctx, "demo", run(), stderr)
}

// parse parses flags of a command that takes no arguments. done tells that
// the command is to end with a status.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) (status int, done bool) {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, true
		}
		return 2, true
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n", flags.Name(), flags.Arg(0))
		return 2, true
	}
	return 0, false
}

// exitStatus says how a command ended, and returns its exit status.
func exitStatus(ctx context.Context, command string, err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintf(stderr, "%s: interrupted: %v\n", command, err)
		return 130 // as a shell has it for SIGINT
	default:
		fmt.Fprintf(stderr, "%s: failed: %v\n", command, err)
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

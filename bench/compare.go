package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/weftnet/weft/bench/compare"
	"github.com/weftnet/weft/bench/report"
)

// Exit statuses of compare, for scripts.
const (
	nothingWorse   = 0
	somethingWorse = 1
	cannotCompare  = 2 // or a wrong command line
)

func runCompare(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("weft-bench compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: weft-bench compare [flags] OLD NEW\n\nOLD and NEW are what `weft-bench run --json FILE` wrote.\nExit status: 0 nothing is worse, 1 something is worse beyond noise, 2 they cannot be compared.")
		flags.PrintDefaults()
	}
	asJSON := flags.Bool("json", false, "print JSON")
	threshold := flags.Float64("threshold", compare.DefaultThreshold, "least change of a median that counts, as a part of it")
	files, err := parseMixed(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nothingWorse
	case err != nil:
		return cannotCompare
	case len(files) != 2:
		flags.Usage()
		return cannotCompare
	}
	c, err := compareFiles(files[0], files[1], *threshold)
	var out []byte
	if err == nil && *asJSON {
		out, err = c.JSON()
	} else if err == nil {
		out = []byte(c.Text())
	}
	if err == nil {
		_, err = stdout.Write(out)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare: failed:", err)
		return cannotCompare
	}
	if len(c.Of(compare.Worse)) > 0 {
		return somethingWorse
	}
	return nothingWorse
}

func compareFiles(oldFile, newFile string, threshold float64) (*compare.Comparison, error) {
	old, err := report.Read(oldFile)
	if err != nil {
		return nil, err
	}
	new, err := report.Read(newFile)
	if err != nil {
		return nil, err
	}
	return compare.Compare(report.Run{File: oldFile, Document: old}, report.Run{File: newFile, Document: new}, threshold)
}

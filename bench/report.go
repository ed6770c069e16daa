package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/weftnet/weft/bench/report"
)

func runReport(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("weft-bench report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: weft-bench report [flags] FILE…\n\nEach FILE is what `weft-bench run --json FILE` wrote. Without flags the tables are printed.")
		flags.PrintDefaults()
	}
	markdown := flags.Bool("markdown", false, "print the tables for a README")
	page := flags.String("html", "", "write a page with charts and tables to this `file`; - for stdout")
	svg := flags.String("svg", "", "write the charts of one run as SVG files for a README into this `directory`")
	files, err := parseMixed(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case len(files) == 0:
		flags.Usage()
		return 2
	case *svg != "" && len(files) > 1:
		fmt.Fprintln(stderr, "report: --svg takes one FILE: the charts for a README are of one run")
		return 2
	}
	if err := makeReport(files, *markdown, *page, *svg, stdout); err != nil {
		fmt.Fprintln(stderr, "report: failed:", err)
		return 1
	}
	return 0
}

func makeReport(files []string, markdown bool, page, svg string, stdout io.Writer) error {
	var documents []*report.Document
	for _, file := range files {
		d, err := report.Read(file)
		if err != nil {
			return err
		}
		documents = append(documents, d)
	}
	runs := report.NewRuns(files, documents)
	if page != "" {
		b, err := report.HTML(runs)
		if err == nil && page == "-" {
			_, err = stdout.Write(b)
		} else if err == nil {
			err = os.WriteFile(page, b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write page: %w", err)
		}
	}
	if svg != "" {
		written, err := documents[0].WriteSVG(svg)
		for _, file := range written {
			fmt.Fprintln(stdout, file)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case markdown:
		fmt.Fprint(stdout, report.Markdown(runs))
	case page == "" && svg == "":
		fmt.Fprint(stdout, report.Tables(runs))
	}
	return nil
}

// parseMixed parses flags that stand before, between and after arguments, and
// returns the arguments.
func parseMixed(flags *flag.FlagSet, args []string) (others []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return others, nil
		}
		others, args = append(others, flags.Arg(0)), flags.Args()[1:]
	}
}

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/version"
)

const versionUsage = `Usage: weftd version
`

func cmdVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if status, ok := parse(options.NewSet("weftd version"), versionUsage, args, 0, 0, stdout, stderr); !ok {
		return status
	}
	fmt.Fprintln(stdout, version.String())
	return exitOK
}

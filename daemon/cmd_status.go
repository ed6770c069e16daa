package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/options"
)

const statusUsage = `Usage: weftd status [--json] [--control-socket FILE]

Shows what the daemon on this host does: its lease, the connection to etcd, the
backend and every peer. Exits with 0 if the node is ready, with 1 if it is not,
and with 2 if no status could be had, usually because no daemon runs.
`

// Exit statuses of `weftd status`.
const (
	statusReady    = 0
	statusNotReady = 1
	statusUnknown  = 2
)

// answerTime is how long the daemon may take to answer. It has the status at
// hand: one that needs longer is stuck.
const answerTime = 5 * time.Second

func cmdStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var asJSON bool
	var socket string
	set := options.NewSet("weftd status")
	set.Bool(&asJSON, "json", "print JSON, for scripts: its names do not change")
	options.AddControlSocket(set, &socket)
	if status, ok := parse(set, statusUsage, args, 0, 0, stdout, stderr); !ok {
		return status
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	s, err := control.GetStatus(ctx, socket)
	if err != nil {
		return fail(stderr, statusUnknown, err)
	}
	if err := writeStatus(stdout, &s, asJSON); err != nil {
		return fail(stderr, statusUnknown, fmt.Errorf("print the status: %w", err))
	}
	if !s.Ready {
		return statusNotReady
	}
	return statusReady
}

func writeStatus(w io.Writer, s *control.Status, asJSON bool) error {
	if !asJSON {
		return s.WriteText(w, time.Now())
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

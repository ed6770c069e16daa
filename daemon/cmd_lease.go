package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/options"
)

const leaseUsage = `Usage: weftd lease renew [--new-subnet]  renew this node's lease at once
       weftd lease list                  show the leases of all nodes
`

func cmdLease(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, leaseUsage, map[string]command{"renew": cmdLeaseRenew, "list": cmdLeaseList}, args, stdout, stderr)
}

const leaseRenewUsage = `Usage: weftd lease renew [--new-subnet] [--control-socket FILE]

Has the daemon on this host renew its lease now. With --new-subnet it takes
another subnet and gives up the present one: containers that have addresses of
that one lose their connections, and must be started anew.
`

// renewTime is how long a renewal may take, with etcd slow or away.
const renewTime = time.Minute

func cmdLeaseRenew(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var newSubnet bool
	var socket string
	set := options.NewSet("weftd lease renew")
	set.Bool(&newSubnet, "new-subnet", "take another subnet")
	options.AddControlSocket(set, &socket)
	if status, ok := parse(set, leaseRenewUsage, args, 0, 0, stdout, stderr); !ok {
		return status
	}
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	lease, err := control.RenewLease(ctx, socket, newSubnet)
	if err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("renew the lease: %w", err))
	}
	fmt.Fprintln(stdout, lease.Text(time.Now()))
	return exitOK
}

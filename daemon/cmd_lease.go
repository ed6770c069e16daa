package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/table"
	"github.com/weftnet/weft/subnet"
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
	fmt.Fprintln(stdout, table.Clean(lease.Text(time.Now())))
	return exitOK
}

const leaseListUsage = `Usage: weftd lease list [etcd flags]

Shows the leases of all nodes, as they are in etcd.
`

func cmdLeaseList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	registry, status, ok := parseWithRegistry(options.NewSet("weftd lease list"), leaseListUsage, args, 0, stdout, stderr)
	if !ok {
		return status
	}
	defer registry.Close()
	snapshot, err := registry.Snapshot(ctx)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	for _, bad := range snapshot.Bad {
		warn(stderr, fmt.Sprintf("%s is skipped: %v", bad.Key, bad.Err))
	}
	if err := writeLeases(stdout, snapshot); err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("print the leases: %w", err))
	}
	return exitOK
}

// writeLeases prints one line a lease, in the order of the subnets.
func writeLeases(w io.Writer, s *subnet.Snapshot) error {
	leases := slices.SortedFunc(slices.Values(s.Leases), func(a, b subnet.Lease) int {
		return a.Subnet.Compare(b.Subnet)
	})
	t := table.New(w, "SUBNET", "OWNER", "BACKEND", "KIND", "NODE ID", "DAEMON")
	for _, l := range leases {
		kind := "lease"
		if l.Reservation {
			kind = "reservation"
		}
		id, daemon := "-", "?" // flannel's nodes do not say whether they live
		if l.Attrs.NodeID != "" {
			id, daemon = l.Attrs.NodeID, "not running"
			if node, ok := s.Alive[id]; ok {
				daemon = "running on " + node.Hostname
			}
		}
		t.Row(l.Subnet.String(), owner(l.Attrs), cmp.Or(l.Attrs.BackendType, "udp"), kind, id, daemon)
	}
	return t.Flush()
}

package subnet

import (
	"context"
	"errors"
	"time"
)

// Errors by which a Registry tells its caller how to go on. They are matched
// with errors.Is; every other error means that the registry could not be
// reached or refused to answer, and may be tried again.
var (
	// ErrNoConfig: <prefix>/config does not exist.
	ErrNoConfig = errors.New("no network config in etcd")
	// ErrChanged: a compare failed, nothing was written. List and decide anew.
	ErrChanged = errors.New("changed since it was read")
	// ErrCompacted: the history asked for is gone. List and watch from there.
	ErrCompacted = errors.New("watched revision has been compacted")
)

// Registry is the store of one cluster's leases. Implementations are safe for
// concurrent use, and every method ends when its context does.
type Registry interface {
	// Config returns the network config as stored, or ErrNoConfig.
	Config(ctx context.Context) ([]byte, error)

	// Snapshot lists leases and live nodes at one revision.
	Snapshot(ctx context.Context) (*Snapshot, error)

	// Create writes a lease that expires after ttl, or up to a hundredth of
	// that earlier, provided that its key does not exist and that nothing
	// under subnets/ was written after revision asOf; otherwise ErrChanged.
	Create(ctx context.Context, s Subnet, a Attrs, ttl time.Duration, asOf int64) (Lease, error)

	// Update rewrites a lease with a new ttl (a reservation stays without
	// one), provided that its key still has revision l.Revision; otherwise
	// ErrChanged. Renewal is an Update with the same attributes.
	Update(ctx context.Context, l Lease, a Attrs, ttl time.Duration) (Lease, error)

	// Delete removes a lease under the same condition as Update.
	Delete(ctx context.Context, l Lease) error

	// Watch calls fn with every change of leases and live nodes after
	// revision after, in order, until ctx ends or the watch breaks. It calls
	// fn without changes once the watch stands, and may do so later as a sign
	// of contact. It returns ErrCompacted where the history after that
	// revision is gone, also because the registry's revision is lower (etcd
	// was wiped or restored from a backup). It never returns nil.
	Watch(ctx context.Context, after int64, fn func(Changes)) error

	// Announce keeps <prefix>/weft/alive/<node ID> under a lease of ttl until
	// ctx ends, and then removes it. A present key of the same instance or
	// the same public IP is our own earlier run's and is taken over; any
	// other is left alone: Announce returns an *AliveError. It returns also
	// when the announcement was lost; the caller calls again.
	// ready, if not nil, is called once the key is in place.
	Announce(ctx context.Context, n Node, ttl time.Duration, ready func()) error
}

// Node is a live weft daemon, the value of its alive key (as JSON, by the
// names of the fields).
type Node struct {
	ID       string
	Instance string // random, of one run of the daemon
	Hostname string
	PublicIP string
}

// Snapshot is the state of the registry at one revision.
type Snapshot struct {
	Revision int64
	Leases   []Lease
	Alive    map[string]Node // by node ID
	Bad      []BadEntry      // entries that could not be parsed
}

// BadEntry is a key under the prefix that is not a lease or node as it should
// be. It is reported once for each revision of the key, and otherwise skipped.
// In Changes, a nil Err says that a key that can be no lease's is gone.
type BadEntry struct {
	Key      string // in full, with the prefix
	Revision int64
	Err      error
}

// Changes is what one or several revisions changed: the last state of each key
// concerned, which stands in one of the lists only.
type Changes struct {
	Revision int64 // everything up to it was handed over; a watch resumes after it
	Put      []Lease
	Deleted  []Subnet
	Up       []Node   // alive keys written
	Down     []string // IDs of alive keys deleted
	Bad      []BadEntry
}

// AliveError says that another daemon runs under our node ID.
type AliveError struct {
	Other Node
}

func (e *AliveError) Error() string {
	return "node ID " + e.Other.ID + " is in use by a running daemon on " + e.Other.Hostname + " (" + e.Other.PublicIP + ")"
}

package subnettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/weftnet/weft/subnet"
)

const (
	configKey = "config"
	leaseDir  = "subnets/"
	aliveDir  = "weft/alive/"
)

var _ subnet.Registry = (*Client)(nil)

// ErrDown is what a Client returns while it is down.
var ErrDown = errors.New("registry is down")

// Client is one node's connection to a Store: a subnet.Registry with faults.
type Client struct {
	store *Store

	mu      sync.Mutex
	mode    mode
	latency time.Duration
	changed chan struct{} // closed and replaced when mode changes
}

type mode int

const (
	up      mode = iota
	down         // calls fail at once
	hanging      // calls wait for their context, watches are silent
	muted        // only watches are silent
	deaf         // writes are done but reported as failed
)

// Client returns a new connection to s.
func (s *Store) Client() *Client {
	return &Client{store: s, changed: make(chan struct{})}
}

// Down makes every call fail at once and breaks the watches.
func (c *Client) Down() { c.setMode(down) }

// Hang makes every call wait for the end of its context, and watches silent.
func (c *Client) Hang() { c.setMode(hanging) }

// Mute lets watches see nothing more; all else works.
func (c *Client) Mute() { c.setMode(muted) }

// Deafen makes every write of a lease fail though it is done: its answer is
// lost.
func (c *Client) Deafen() { c.setMode(deaf) }

// Up ends Down, Hang, Mute and Deafen. A silent watch goes on where it was.
func (c *Client) Up() { c.setMode(up) }

// SetLatency makes every call take a random time up to d.
func (c *Client) SetLatency(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = d
}

func (c *Client) setMode(m mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) state() (mode, time.Duration, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode, c.latency, c.changed
}

// reach waits as long as one exchange with the store takes, or returns why
// there can be none.
func (c *Client) reach(ctx context.Context) error {
	for {
		m, latency, changed := c.state()
		if err := ctx.Err(); err != nil {
			return err
		}
		switch m {
		case down:
			return ErrDown
		case hanging:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				continue
			}
		}
		if latency == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(latency)):
			return nil
		}
	}
}

// Config implements subnet.Registry, as do the methods that follow.
func (c *Client) Config(ctx context.Context) ([]byte, error) {
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	value, _, ok := c.store.Get(configKey)
	if !ok {
		return nil, subnet.ErrNoConfig
	}
	return []byte(value), nil
}

func (c *Client) Snapshot(ctx context.Context) (*subnet.Snapshot, error) {
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := subnet.Changes{Revision: s.rev}
	for key, e := range s.kv {
		note(&ch, event{rev: e.rev, key: key, value: e.value, leased: e.timer != nil})
	}
	snap := &subnet.Snapshot{Revision: s.rev, Leases: ch.Put, Bad: ch.Bad, Alive: map[string]subnet.Node{}}
	for _, n := range ch.Up {
		snap.Alive[n.ID] = n
	}
	return snap, nil
}

// note adds one key's state to ch, parsed as a Registry shows it.
func note(ch *subnet.Changes, e event) {
	bad := func(err error) {
		ch.Bad = append(ch.Bad, subnet.BadEntry{Key: Prefix + "/" + e.key, Revision: e.rev, Err: err})
	}
	if id, ok := strings.CutPrefix(e.key, aliveDir); ok {
		var n subnet.Node
		switch err := json.Unmarshal([]byte(e.value), &n); {
		case e.deleted:
			ch.Down = append(ch.Down, id)
		case err != nil:
			bad(err)
		case n.ID != id:
			bad(fmt.Errorf("node ID %q is not that of the key", n.ID))
		default:
			ch.Up = append(ch.Up, n)
		}
		return
	}
	name, ok := strings.CutPrefix(e.key, leaseDir)
	if !ok {
		return
	}
	sn, err := subnet.ParseKey(name)
	switch {
	case err != nil && e.deleted:
		bad(nil)
		return
	case err != nil:
		bad(err)
		return
	case e.deleted:
		ch.Deleted = append(ch.Deleted, sn)
		return
	}
	l := subnet.Lease{Subnet: sn, Reservation: !e.leased, Revision: e.rev}
	if err := json.Unmarshal([]byte(e.value), &l.Attrs); err != nil {
		bad(err)
		return
	}
	ch.Put = append(ch.Put, l)
}

func (c *Client) Create(ctx context.Context, sn subnet.Subnet, a subnet.Attrs, ttl time.Duration, asOf int64) (subnet.Lease, error) {
	value, err := json.Marshal(a)
	if err != nil {
		return subnet.Lease{}, fmt.Errorf("create lease %s: %w", sn, err)
	}
	if err := c.reach(ctx); err != nil {
		return subnet.Lease{}, err
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.kv {
		if strings.HasPrefix(key, leaseDir) && e.rev > asOf {
			return subnet.Lease{}, fmt.Errorf("create lease %s: %w", sn, subnet.ErrChanged)
		}
	}
	key := leaseDir + sn.Key()
	if s.kv[key] != nil {
		return subnet.Lease{}, fmt.Errorf("create lease %s: %w", sn, subnet.ErrChanged)
	}
	return subnet.Lease{Subnet: sn, Attrs: a, Revision: s.put(key, string(value), ttl)}, c.answer()
}

func (c *Client) Update(ctx context.Context, l subnet.Lease, a subnet.Attrs, ttl time.Duration) (subnet.Lease, error) {
	value, err := json.Marshal(a)
	if err != nil {
		return subnet.Lease{}, fmt.Errorf("update lease %s: %w", l.Subnet, err)
	}
	if err := c.reach(ctx); err != nil {
		return subnet.Lease{}, err
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	key := leaseDir + l.Subnet.Key()
	e := s.kv[key]
	if e == nil || e.rev != l.Revision {
		return subnet.Lease{}, fmt.Errorf("update lease %s: %w", l.Subnet, subnet.ErrChanged)
	}
	if l.Reservation {
		ttl = 0
	}
	l.Attrs = a
	l.Revision = s.put(key, string(value), ttl)
	return l, c.answer()
}

func (c *Client) Delete(ctx context.Context, l subnet.Lease) error {
	if err := c.reach(ctx); err != nil {
		return err
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	key := leaseDir + l.Subnet.Key()
	if e := s.kv[key]; e == nil || e.rev != l.Revision {
		return fmt.Errorf("delete lease %s: %w", l.Subnet, subnet.ErrChanged)
	}
	s.remove(key)
	return c.answer()
}

// answer is the outcome of a write that was done.
func (c *Client) answer() error {
	if m, _, _ := c.state(); m == deaf {
		return ErrDown
	}
	return nil
}

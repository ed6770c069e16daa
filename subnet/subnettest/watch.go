package subnettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftnet/weft/subnet"
)

var errWatchBroken = errors.New("watch broken")

// Watch implements subnet.Registry: one call of fn for each revision.
func (c *Client) Watch(ctx context.Context, after int64, fn func(subnet.Changes)) error {
	if err := c.reach(ctx); err != nil {
		return err
	}
	s := c.store
	s.mu.Lock()
	breaks, era := s.breaks, s.era
	s.mu.Unlock()
	for first := true; ; first = false {
		m, _, modeChanged := c.state()
		if m == down {
			return ErrDown
		}
		s.mu.Lock()
		switch {
		case s.breaks != breaks:
			s.mu.Unlock()
			return errWatchBroken
		case first && after+1 < s.compacted, after > s.rev, s.era != era:
			s.mu.Unlock()
			return fmt.Errorf("watch from revision %d: %w", after, subnet.ErrCompacted)
		}
		var batch []subnet.Changes
		if first {
			batch = append(batch, subnet.Changes{Revision: after})
		}
		if m == up || m == deaf {
			batch = append(batch, s.since(after)...)
			after = s.rev
		}
		storeChanged := s.changed
		s.mu.Unlock()

		for _, ch := range batch {
			fn(ch)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-storeChanged:
		case <-modeChanged:
		}
	}
}

// since returns the changes after a revision, which history still holds, one
// Changes for each revision. It is called with the mutex held.
func (s *Store) since(after int64) []subnet.Changes {
	i, _ := slices.BinarySearchFunc(s.history, after+1, func(e event, rev int64) int {
		return int(e.rev - rev)
	})
	var out []subnet.Changes
	for _, e := range s.history[i:] {
		ch := subnet.Changes{Revision: e.rev}
		note(&ch, e)
		out = append(out, ch)
	}
	return out
}

// Announce implements subnet.Registry. While its client is down the key is not
// kept alive, so that it runs out, and Announce then returns.
func (c *Client) Announce(ctx context.Context, n subnet.Node, ttl time.Duration, ready func()) error {
	if err := c.reach(ctx); err != nil {
		return err
	}
	value, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("announce node %s: %w", n.ID, err)
	}
	s := c.store
	key := aliveDir + n.ID
	s.mu.Lock()
	var other subnet.Node
	if e := s.kv[key]; e != nil && json.Unmarshal([]byte(e.value), &other) == nil &&
		other.Instance != n.Instance && (other.PublicIP == "" || other.PublicIP != n.PublicIP) {
		s.mu.Unlock()
		return &subnet.AliveError{Other: other}
	}
	s.put(key, string(value), ttl)
	mine := s.kv[key]
	s.mu.Unlock()
	if ready != nil {
		ready()
	}

	tick := time.NewTicker(ttl / 3)
	defer tick.Stop()
	for {
		s.mu.Lock()
		held, storeChanged := s.kv[key] == mine, s.changed
		s.mu.Unlock()
		if !held {
			return fmt.Errorf("announce node %s: the key was deleted, taken over or ran out", n.ID)
		}
		select {
		case <-ctx.Done():
			c.withdraw(key, mine)
			return ctx.Err()
		case <-storeChanged:
		case <-tick.C:
			if m, _, _ := c.state(); m != down && m != hanging {
				s.mu.Lock()
				if s.kv[key] == mine {
					mine.timer.Reset(ttl)
				}
				s.mu.Unlock()
			}
		}
	}
}

// withdraw removes an alive key that is still the one put by its caller, if
// the store can be reached.
func (c *Client) withdraw(key string, mine *entry) {
	if m, _, _ := c.state(); m == down || m == hanging {
		return
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kv[key] == mine {
		s.remove(key)
	}
}

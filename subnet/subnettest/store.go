// Package subnettest holds the contract that every subnet.Registry keeps, as a
// test suite (RunRegistry), and a registry in memory whose faults can be
// chosen.
package subnettest

import (
	"strings"
	"sync"
	"time"
)

// Prefix is the etcd prefix under which a Store reports its keys.
const Prefix = "/coreos.com/network"

// Store is an etcd in memory, as far as a Registry can tell: keys with
// revisions, leases that run out, a history that can be compacted. Keys are
// given and taken without the prefix: "config", "subnets/10.5.1.0-24".
// Its zero value is not usable; make one with NewStore.
type Store struct {
	mu        sync.Mutex
	rev       int64
	compacted int64 // changes up to here are no longer in history
	era       int   // counts the losses of all data
	kv        map[string]*entry
	history   []event
	changed   chan struct{} // closed and replaced at every change
	breaks    int           // counts BreakWatches
}

// entry is one key. Its timer runs while it has a TTL.
type entry struct {
	value string
	rev   int64 // ModRevision
	timer *time.Timer
}

// event is one change of one key. Changes of one transaction share a revision.
type event struct {
	rev     int64
	key     string
	value   string
	leased  bool
	deleted bool
}

// NewStore returns an empty store at revision 1, as etcd starts.
func NewStore() *Store {
	return &Store{rev: 1, kv: map[string]*entry{}, changed: make(chan struct{})}
}

// Put writes a key blindly, as etcdctl or flannel does. A ttl of zero means
// none. It returns the key's revision.
func (s *Store) Put(key, value string, ttl time.Duration) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(key, value, ttl)
}

// Delete removes a key, if present.
func (s *Store) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(key)
}

// Expire lets the TTL of a key run out now.
func (s *Store) Expire(key string) { s.Delete(key) }

// Get returns a key's value and whether it has a TTL.
func (s *Store) Get(key string) (value string, leased, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.kv[key]
	if !ok {
		return "", false, false
	}
	return e.value, e.timer != nil, true
}

// Keys returns the keys that begin with prefix, in no order.
func (s *Store) Keys(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.kv {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys
}

// Compact forgets the history up to the present. Watches under way go on.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = s.rev
	s.history = nil
}

// BreakWatches ends every watch with an error, as a change of leader does.
func (s *Store) BreakWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaks++
	s.wake()
}

// Wipe loses all data: the store is as new, its revisions start anew.
func (s *Store) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.kv {
		e.stop()
	}
	s.kv = map[string]*entry{}
	s.rev, s.compacted, s.history = 1, 0, nil
	s.era++
	s.wake()
}

// put and everything below is called with the mutex held.
func (s *Store) put(key, value string, ttl time.Duration) int64 {
	s.rev++
	if old := s.kv[key]; old != nil {
		old.stop()
	}
	e := &entry{value: value, rev: s.rev}
	if ttl > 0 {
		e.timer = time.AfterFunc(ttl, func() { s.expire(key, e) })
	}
	s.kv[key] = e
	s.history = append(s.history, event{rev: s.rev, key: key, value: value, leased: ttl > 0})
	s.wake()
	return s.rev
}

func (s *Store) remove(key string) {
	e := s.kv[key]
	if e == nil {
		return
	}
	e.stop()
	s.rev++
	delete(s.kv, key)
	s.history = append(s.history, event{rev: s.rev, key: key, deleted: true})
	s.wake()
}

// expire is called by e's timer, without the mutex.
func (s *Store) expire(key string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kv[key] == e {
		s.remove(key)
	}
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (e *entry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

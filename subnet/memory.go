package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/internal/atomicfile"
)

// Memory is what a node knew of its cluster when etcd last answered, in
// cluster.json of its state directory. A node that starts while etcd is away
// goes on from there, as one does that etcd left while it ran.
type Memory struct {
	Source string // which etcd it comes from, in the caller's words
	Saved  time.Time
	Config []byte // the network config as stored

	Revision int64 // of the registry
	Own      Lease
	Expires  time.Time // of Own; zero for a reservation
	Peers    []Lease
}

// memoryAge is for how long a reservation, which never expires, lets a node go
// on: as long as a lease, since the peers have leases.
const memoryAge = defaultTTL

// Usable returns why a node must not go on from m at a time, nil if it may.
func (m *Memory) Usable(source string, now time.Time) error {
	expires := m.Expires
	if m.Own.Reservation {
		expires = m.Saved.Add(memoryAge)
	}
	switch {
	case m.Source != source:
		return fmt.Errorf("it is of another etcd, %s", m.Source)
	case now.Before(m.Saved):
		return fmt.Errorf("it was saved at %s, but the clock says that this is to come", m.Saved.Format(time.RFC3339))
	case !now.Before(expires):
		return fmt.Errorf("the lease expired at %s", expires.Format(time.RFC3339))
	}
	return nil
}

// memoryJSON is Memory as it stands in the file.
type memoryJSON struct {
	Source   string      `json:"source"`
	Saved    time.Time   `json:"saved"`
	Config   string      `json:"config"` // to the byte: it is compared with etcd's
	Revision int64       `json:"revision"`
	Own      leaseJSON   `json:"own"`
	Expires  time.Time   `json:"expires,omitzero"`
	Peers    []leaseJSON `json:"peers"`
}

type leaseJSON struct {
	Subnet      string `json:"subnet"` // as in the lease's key
	Attrs       Attrs  `json:"attrs"`
	Reservation bool   `json:"reservation,omitempty"`
	Revision    int64  `json:"revision"`
}

func (l Lease) json() leaseJSON {
	return leaseJSON{Subnet: l.Subnet.Key(), Attrs: l.Attrs, Reservation: l.Reservation, Revision: l.Revision}
}

func (j leaseJSON) lease() (Lease, error) {
	s, err := ParseKey(j.Subnet)
	return Lease{Subnet: s, Attrs: j.Attrs, Reservation: j.Reservation, Revision: j.Revision}, err
}

const memoryFile = "cluster.json"

// LoadMemory reads the memory in dir, nil if there is none.
func LoadMemory(dir string) (*Memory, error) {
	path := filepath.Join(dir, memoryFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known of the cluster: %w", err)
	}
	m, err := parseMemory(data)
	if err != nil {
		return nil, fmt.Errorf("what is known of the cluster, %s, is damaged: %w", path, err)
	}
	return m, nil
}

func parseMemory(data []byte) (*Memory, error) {
	var j memoryJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, err
	}
	m := &Memory{Source: j.Source, Saved: j.Saved, Config: []byte(j.Config), Revision: j.Revision, Expires: j.Expires}
	var err error
	if m.Own, err = j.Own.lease(); err != nil {
		return nil, err
	}
	for _, p := range j.Peers {
		l, err := p.lease()
		if err != nil {
			return nil, err
		}
		m.Peers = append(m.Peers, l)
	}
	return m, nil
}

// Save writes m into dir in place of what was known before.
func (m *Memory) Save(dir string) error {
	j := memoryJSON{
		Source: m.Source, Saved: m.Saved, Config: string(m.Config), Revision: m.Revision,
		Own: m.Own.json(), Expires: m.Expires, Peers: make([]leaseJSON, 0, len(m.Peers)),
	}
	for _, p := range m.Peers {
		j.Peers = append(j.Peers, p.json())
	}
	data, err := json.Marshal(j)
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, memoryFile), append(data, '\n'), 0o600, 0o700)
	}
	if err != nil {
		return fmt.Errorf("write what is known of the cluster: %w", err)
	}
	return nil
}

// resume takes a Memory for what is known, before Run. What has changed since is
// learned as after an outage: the registry is read first, and the lease is
// renewed, or given up to its new owner.
func (m *Manager) resume(from *Memory) {
	m.table.leases = newLeaseSet(append(from.Peers[:len(from.Peers):len(from.Peers)], from.Own))
	m.table.revision = from.Revision
	m.lease.own, m.lease.held = from.Own, true
	m.lease.expires = from.Expires
	m.lease.renewDue = true
	m.published.dirty = true
}

// Package vtep keeps strangers out of a VXLAN endpoint. The kernel takes a
// VXLAN datagram from anyone, on any interface, and hands what is inside to
// its routing: whoever reaches the UDP port reaches every container, with any
// source. So there are two rules, in an nf_tables table of their own:
//
//   - the port takes datagrams from addresses that leases name, only;
//   - what comes out of the device has a source inside the cluster network and
//     outside this node's own subnet.
//
// That a peer uses another peer's source cannot be told here.
package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/google/nftables"
)

// Names of the table, of family inet, and of what is in it.
const (
	tableName   = "weft-vtep"
	chainPort   = "port"
	chainSource = "source"
	setPeers4   = "peers4"
	setPeers6   = "peers6"
)

// Config is the desired state.
type Config struct {
	Port     uint16         // of UDP, that encapsulated packets come to
	Devices  []string       // flannel.1 and so on; they need not exist yet
	Networks []netip.Prefix // the cluster network, one of each family at most
	Subnets  []netip.Prefix // this node's
	Peers    []netip.Addr   // the underlay addresses that leases name
}

func (c Config) validate() error {
	if c.Port == 0 {
		return errors.New("no port")
	}
	for _, d := range c.Devices {
		if d == "" || len(d) > maxDeviceName {
			return fmt.Errorf("device name %q", d)
		}
	}
	for _, p := range slices.Concat(c.Networks, c.Subnets) {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("%v is not a masked prefix", p)
		}
	}
	for _, a := range c.Peers {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("peer address %v", a)
		}
	}
	return nil
}

// clone makes a Config that its maker can no longer change, with each peer
// once.
func (c Config) clone() Config {
	c.Devices, c.Networks, c.Subnets = slices.Clone(c.Devices), slices.Clone(c.Networks), slices.Clone(c.Subnets)
	c.Peers = slices.Clone(c.Peers)
	slices.SortFunc(c.Peers, netip.Addr.Compare)
	c.Peers = slices.Compact(c.Peers)
	return c
}

// Guard keeps one Config. Its methods may be called concurrently, and work in
// the network namespace of the calling thread. The zero Guard is ready.
type Guard struct {
	mu   sync.Mutex
	want *Config
	seen []string // fingerprint right after the rules were written; nil before
}

// Apply makes c the desired state and the kernel match it, in one transaction:
// there is no moment without rules. It tells whether anything had to be
// written. On an error the desired state stands, for Reconcile to try again.
func (g *Guard) Apply(c Config) (changed bool, err error) {
	if err := c.validate(); err != nil {
		return false, fmt.Errorf("guard the VXLAN port: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c = c.clone()
	if g.want != nil && !sameRules(*g.want, c) {
		g.seen = nil
	}
	g.want = &c
	return g.reconcile()
}

// Reconcile puts back what has been changed since Apply.
func (g *Guard) Reconcile() (changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.want == nil {
		return false, nil
	}
	return g.reconcile()
}

// sameRules: they differ in peers at most.
func sameRules(a, b Config) bool {
	a.Peers, b.Peers = nil, nil
	return reflect.DeepEqual(a, b)
}

func (g *Guard) reconcile() (changed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("guard the VXLAN port (this needs nf_tables in the kernel): %w", err)
		}
	}()
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nf_tables: %w", err)
	}
	live, err := fingerprint(conn)
	if err != nil {
		return false, err
	}
	if g.seen != nil && slices.Equal(live, g.seen) {
		return updatePeers(conn, g.want.Peers)
	}
	build(conn, *g.want)
	if err := conn.Flush(); err != nil {
		return false, fmt.Errorf("write table %s: %w", tableName, err)
	}
	g.seen, err = fingerprint(conn)
	return true, err
}

// Remove removes the table. That there is none is no error.
func Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	conn.DelTable(ownTable())
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove table %s: %w", tableName, err)
	}
	return nil
}

func ownTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// fingerprint describes the table's chains and sets and the handles of its
// rules; it is nil if there is no table. The kernel gives every new rule a new
// handle, so handles tell as much as contents.
func fingerprint(conn *nftables.Conn) ([]string, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return nil, nil
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var print []string
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", c.Name, err)
		}
		line := c.Name
		for _, r := range rules {
			line += fmt.Sprint(" ", r.Handle)
		}
		print = append(print, line)
	}
	return print, nil
}

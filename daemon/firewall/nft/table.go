// Package nft puts weft's rules into the kernel's nf_tables over netlink; it
// needs no command on the host. Every call works in the network namespace of
// the calling thread.
package nft

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/google/nftables"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Names of weft's own table, of family inet, and of its chains. There is no
// chain for the forward rules: an accept in one table does not undo a drop in
// another, so they go where the drop is, see Guest.
const (
	tableName        = "weft"
	chainPostrouting = "postrouting"
	chainMSS         = "mss"
)

// Priorities. Of several NAT chains on one hook the first that sets up a
// mapping wins, so weft's comes just before everybody's (100, "srcnat").
var (
	priorityPostrouting = nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 5)
	priorityMSS         = nftables.ChainPriorityMangle
)

// Supported tells why nf_tables cannot be used here, or nil.
func Supported() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	if _, err := conn.ListTables(); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("list nf_tables tables: %w: CAP_NET_ADMIN is needed", err)
		}
		return fmt.Errorf("list nf_tables tables: %w: the kernel needs nf_tables (modprobe nf_tables)", err)
	}
	return nil
}

// Table is weft's own table. Its methods are not safe for concurrent use.
type Table struct {
	want rule.Sets
	seen []string // fingerprint right after our last write; nil before
}

// Ensure makes the own table what sets says of source NAT and MSS. The table is
// replaced as a whole in one transaction; where nothing is wanted there is
// none.
func (t *Table) Ensure(sets rule.Sets) (r rule.Report, err error) {
	const name = "nft inet " + tableName
	conn, err := nftables.New()
	if err != nil {
		return r, fmt.Errorf("open nf_tables: %w", err)
	}
	live, _, err := fingerprint(conn)
	if err != nil {
		return r, err
	}
	wanted := hasOwnRules(sets)
	if wanted {
		r.InPlace = []string{name}
	} else if live == nil {
		return r, nil
	}
	if t.seen != nil && reflect.DeepEqual(t.want, sets) && slices.Equal(live, t.seen) {
		return r, nil
	}

	// Adding a table that is there does nothing, deleting one that is not
	// there fails: so add, delete, and add it empty.
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if wanted {
		conn.AddTable(table)
		addChain(conn, &nftables.Chain{
			Table: table, Name: chainPostrouting, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: priorityPostrouting,
		}, sets.IPv4.Postrouting, sets.IPv6.Postrouting)
		addChain(conn, &nftables.Chain{
			Table: table, Name: chainMSS, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: priorityMSS,
		}, sets.IPv4.Clamp, sets.IPv6.Clamp)
	}
	if err := conn.Flush(); err != nil {
		return rule.Report{}, fmt.Errorf("write %s (an inet table with NAT needs Linux 5.2): %w", name, err)
	}
	r.Changed = []string{name}
	live, rules, err := fingerprint(conn)
	if want := countOwnRules(sets); err == nil && rules != want {
		// Somebody was quicker: what is there now must not pass for ours.
		err = fmt.Errorf("read back %s: its rules are not the %d that were written", name, want)
	}
	t.want, t.seen = sets, live
	if err != nil {
		t.seen = nil
	}
	return r, err
}

// hasOwnRules tells whether sets holds rules that belong in the own table.
func hasOwnRules(s rule.Sets) bool { return countOwnRules(s) > 0 }

func countOwnRules(s rule.Sets) int {
	return len(s.IPv4.Postrouting) + len(s.IPv6.Postrouting) + len(s.IPv4.Clamp) + len(s.IPv6.Clamp)
}

func addChain(conn *nftables.Conn, chain *nftables.Chain, rules4, rules6 []rule.Rule) {
	if len(rules4)+len(rules6) == 0 {
		return
	}
	conn.AddChain(chain)
	for _, r := range rules4 {
		conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: ownExprs(header4, r), UserData: marked})
	}
	for _, r := range rules6 {
		conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: ownExprs(header6, r), UserData: marked})
	}
}

// fingerprint describes the own table's chains and the handles of their rules,
// and counts the rules; it is nil if there is no table. The kernel gives every
// new rule a new handle, also one that replaces another, so handles tell as much
// as contents.
func fingerprint(conn *nftables.Conn) (print []string, rules int, err error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, 0, fmt.Errorf("list nf_tables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return nil, 0, nil
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, 0, fmt.Errorf("list nf_tables chains: %w", err)
	}
	print = []string{}
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		list, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, 0, fmt.Errorf("list rules of inet %s %s: %w", tableName, c.Name, err)
		}
		print = append(print, fmt.Sprint(c.Name, handles(list)))
		rules += len(list)
	}
	return print, rules, nil
}

func handles(rules []*nftables.Rule) []uint64 {
	var hs []uint64
	for _, r := range rules {
		hs = append(hs, r.Handle)
	}
	return hs
}

package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Guest keeps weft's accepting rules in the filter tables that iptables-nft
// manages, written so that iptables-nft can still read and list those tables.
// Its methods are not safe for concurrent use.
type Guest struct {
	seen map[string]string // chain contents right after our last write, see guestKey
}

// Ensure makes weft's chains in the tables of iptables-nft what sets says. Sets
// must be guests, or empty to remove weft's chains there, whatever made them.
func (g *Guest) Ensure(sets rule.Sets) (rule.Report, error) {
	var report rule.Report
	var errs []error
	for _, f := range []struct {
		family nftables.TableFamily
		name   string
		header header
		set    rule.Set
	}{
		{nftables.TableFamilyIPv4, "ip", header4, sets.IPv4},
		{nftables.TableFamilyIPv6, "ip6", header6, sets.IPv6},
	} {
		v, err := readView(f.family, f.name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := g.ensure(v, f.header, f.set)
		report.Add(r)
		errs = append(errs, err)
	}
	return report, errors.Join(errs...)
}

func (g *Guest) ensure(v *view, h header, set rule.Set) (r rule.Report, err error) {
	want := set.Chains(v.filterTable())
	for _, own := range rule.Own {
		name := fmt.Sprintf("nft %s %s %s", v.name, own.Table, own.Chain)
		i := slices.IndexFunc(want, func(c rule.Chain) bool { return c.Name == own.Chain })
		switch {
		case i < 0 && v.chains[own] != nil:
			v.drop(own)
			r.Changed = append(r.Changed, name)
		case i >= 0 && !g.inPlace(v, want[i]):
			v.replace(h, want[i])
			r.Changed = append(r.Changed, name)
		}
		if i >= 0 {
			r.InPlace = append(r.InPlace, name)
		}
	}
	if len(r.Changed) == 0 {
		return r, nil
	}
	if err := v.conn.Flush(); err != nil {
		return rule.Report{}, fmt.Errorf("write nf_tables family %s: %w", v.name, err)
	}
	if v, err = readView(v.family, v.name); err != nil {
		return rule.Report{}, err
	}
	if g.seen == nil {
		g.seen = map[string]string{}
	}
	for _, c := range want {
		g.seen[guestKey(v, c)] = v.contents(c)
	}
	return r, nil
}

// guestKey identifies a chain together with the rules that we want in it.
func guestKey(v *view, c rule.Chain) string {
	return fmt.Sprint(v.name, c.Table, c.Name, c.Rules)
}

// inPlace tells whether a chain holds what we put there and is reached by one
// jump in the right place.
func (g *Guest) inPlace(v *view, c rule.Chain) bool {
	if v.chains[rule.Place{Table: c.Table, Chain: c.Name}] == nil || g.seen[guestKey(v, c)] != v.contents(c) {
		return false
	}
	jumps := v.jumpsTo(c.Table, c.Name)
	if len(jumps) != 1 || jumps[0].Chain.Name != c.From {
		return false
	}
	from := v.rules[rule.Place{Table: c.Table, Chain: c.From}]
	if c.Last {
		return jumps[0] == from[len(from)-1]
	}
	return jumps[0] == from[0]
}

// A view is what one family's nat, mangle and filter tables hold, as far as it
// concerns weft, and the transaction that changes it.
type view struct {
	conn   *nftables.Conn
	family nftables.TableFamily
	name   string
	chains map[rule.Place]*nftables.Chain
	rules  map[rule.Place][]*nftables.Rule // of weft's chains and those that jump to them
}

func readView(family nftables.TableFamily, name string) (*view, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	v := &view{
		conn: conn, family: family, name: name,
		chains: map[rule.Place]*nftables.Chain{}, rules: map[rule.Place][]*nftables.Rule{},
	}
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nf_tables chains of family %s: %w", name, err)
	}
	for _, c := range chains {
		p := rule.Place{Table: c.Table.Name, Chain: c.Name}
		if !slices.Contains(rule.Own, p) && !slices.Contains(rule.From, p) {
			continue
		}
		v.chains[p] = c
		if v.rules[p], err = conn.GetRules(c.Table, c); err != nil {
			return nil, fmt.Errorf("list rules of %s %s %s: %w", name, p.Table, p.Chain, err)
		}
	}
	return v, nil
}

func (v *view) filterTable() rule.FilterTable {
	forward := rule.Place{Table: "filter", Chain: "FORWARD"}
	f := rule.FilterTable{DockerUser: v.chains[rule.Place{Table: "filter", Chain: rule.DockerUser}] != nil}
	if c := v.chains[forward]; c != nil && c.Policy != nil {
		f.InUse = *c.Policy == nftables.ChainPolicyDrop
	}
	for _, r := range v.rules[forward] {
		if !jumps(r, rule.ChainForward) {
			f.InUse = true
		}
	}
	return f
}

func (v *view) contents(c rule.Chain) string {
	return fmt.Sprint(handles(v.rules[rule.Place{Table: c.Table, Chain: c.Name}]))
}

func (v *view) jumpsTo(table, chain string) []*nftables.Rule {
	var found []*nftables.Rule
	for _, from := range rule.From {
		for _, r := range v.rules[from] {
			if from.Table == table && jumps(r, chain) {
				found = append(found, r)
			}
		}
	}
	return found
}

func jumps(r *nftables.Rule, chain string) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		verdict, ok := e.(*expr.Verdict)
		return ok && verdict.Chain == chain
	})
}

// replace writes a chain anew, together with its jump.
func (v *view) replace(h header, c rule.Chain) {
	table := &nftables.Table{Name: c.Table, Family: v.family}
	chain := &nftables.Chain{Table: table, Name: c.Name}
	v.dropJumps(c.Table, c.Name)
	conn := v.conn
	conn.AddChain(chain) // no error if it exists
	conn.FlushChain(chain)
	for _, r := range c.Rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: acceptExprs(h, r), UserData: marked})
	}
	jump := &nftables.Rule{Table: table, Chain: &nftables.Chain{Table: table, Name: c.From}, Exprs: jumpExprs(c.Name), UserData: marked}
	if c.Last {
		conn.AddRule(jump)
	} else {
		conn.InsertRule(jump)
	}
}

func (v *view) drop(p rule.Place) {
	v.dropJumps(p.Table, p.Chain)
	chain := v.chains[p]
	v.conn.FlushChain(chain)
	v.conn.DelChain(chain)
}

func (v *view) dropJumps(table, chain string) {
	for _, r := range v.jumpsTo(table, chain) {
		// It fails only for a rule without a handle; these come from the kernel.
		_ = v.conn.DelRule(r)
	}
}

package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Host says whose tables a Guest is in.
type Host int

const (
	IPTables Host = iota // those that iptables-nft manages
	Docker               // Docker's own, which it has with its nftables backend
)

// Guest keeps weft's accepting rules in the tables of its Host, written so
// that iptables-nft can still read and list those that are its own. Its methods
// are not safe for concurrent use.
type Guest struct {
	Host Host

	seen map[string]string // chain contents right after our last write, see guestKey
}

// Ensure makes weft's chains in the host's tables what sets says. Sets must be
// guests, or empty to remove weft's chains there, whatever made them.
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
		v, err := readView(g.Host, f.family, f.name)
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
	want, answers := v.chainsOf(set)
	for _, own := range v.own {
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
	r.Answers = answers
	if len(r.Changed) == 0 {
		return r, nil
	}
	if err := v.conn.Flush(); err != nil {
		return rule.Report{}, fmt.Errorf("write nf_tables family %s: %w", v.name, err)
	}
	if v, err = readView(g.Host, v.family, v.name); err != nil {
		return rule.Report{}, err
	}
	if g.seen == nil {
		g.seen = map[string]string{}
	}
	for _, c := range want {
		if n := len(v.rules[rule.Place{Table: c.Table, Chain: c.Name}]); n != len(c.Rules) {
			// Somebody was quicker: what is there now must not pass for ours.
			delete(g.seen, guestKey(v, c))
			return r, fmt.Errorf("read back nft %s %s %s: its rules are not the %d that were written", v.name, c.Table, c.Name, len(c.Rules))
		}
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

func jumps(r *nftables.Rule, chain string) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		verdict, ok := e.(*expr.Verdict)
		return ok && verdict.Chain == chain
	})
}

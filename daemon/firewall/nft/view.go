package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// A view is what one family's tables of a Host hold, as far as it concerns
// weft, and the transaction that changes it.
type view struct {
	conn      *nftables.Conn
	host      Host
	family    nftables.TableFamily
	name      string
	own, from []rule.Place // weft's chains, and those that jump to them
	chains    map[rule.Place]*nftables.Chain
	rules     map[rule.Place][]*nftables.Rule // of own and from
}

func readView(host Host, family nftables.TableFamily, name string) (*view, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	v := &view{
		conn: conn, host: host, family: family, name: name, own: rule.Own, from: rule.From,
		chains: map[rule.Place]*nftables.Chain{}, rules: map[rule.Place][]*nftables.Rule{},
	}
	if host == Docker {
		v.own, v.from = rule.DockerOwn, rule.DockerFrom
	}
	chains, err := conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nf_tables chains of family %s: %w", name, err)
	}
	for _, c := range chains {
		p := rule.Place{Table: c.Table.Name, Chain: c.Name}
		v.chains[p] = c
		if !slices.Contains(v.own, p) && !slices.Contains(v.from, p) {
			continue
		}
		if v.rules[p], err = conn.GetRules(c.Table, c); err != nil {
			return nil, fmt.Errorf("list rules of %s %s %s: %w", name, p.Table, p.Chain, err)
		}
	}
	return v, nil
}

// chainsOf lays a set out in the host's tables, and says what that answers.
func (v *view) chainsOf(set rule.Set) (want []rule.Chain, answers []string) {
	if v.host == Docker {
		want = set.DockerChains(func(p rule.Place) bool { return v.chains[p] != nil })
		return want, rule.DockerAnswers("nft "+v.name+" "+rule.DockerTable, want)
	}
	live := v.survey()
	// iptables-nft makes a table's own chains when it first has a rule for the
	// table. Before that nothing is dropped there.
	want = slices.DeleteFunc(set.Chains(live), func(c rule.Chain) bool {
		return v.chains[rule.Place{Table: c.Table, Chain: c.From}] == nil
	})
	return want, live.Answers("nft "+v.name, want)
}

// survey sums up what rule.Set.Chains wants to know of iptables' tables.
func (v *view) survey() rule.Live {
	filter := func(chain string) rule.Place { return rule.Place{Table: "filter", Chain: chain} }
	l := rule.Live{
		DockerUser:    v.chains[filter(rule.DockerUser)] != nil,
		DockerForward: v.chains[filter(rule.DockerForward)] != nil,
		RawDrops:      slices.ContainsFunc(v.rules[rule.Place{Table: "raw", Chain: "PREROUTING"}], dropsRouted),
	}
	if c := v.chains[filter("FORWARD")]; c != nil && c.Policy != nil {
		l.PolicyDrop = *c.Policy == nftables.ChainPolicyDrop
	}
	l.InUse = l.PolicyDrop || slices.ContainsFunc(v.rules[filter("FORWARD")], func(r *nftables.Rule) bool {
		return !jumps(r, rule.ChainForward)
	})
	return l
}

// dropsRouted: see rule.Live.RawDrops.
func dropsRouted(r *nftables.Rule) bool {
	drops, elsewhere := false, false
	for i, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			drops = drops || e.Kind == expr.VerdictDrop
		case *expr.Cmp:
			if meta, ok := r.Exprs[max(i-1, 0)].(*expr.Meta); ok && meta.Key == expr.MetaKeyIIFNAME {
				elsewhere = elsewhere || e.Op == expr.CmpOpNeq
			}
		}
	}
	return drops && elsewhere
}

func (v *view) contents(c rule.Chain) string {
	return fmt.Sprint(handles(v.rules[rule.Place{Table: c.Table, Chain: c.Name}]))
}

func (v *view) jumpsTo(table, chain string) []*nftables.Rule {
	var found []*nftables.Rule
	for _, from := range v.from {
		for _, r := range v.rules[from] {
			if from.Table == table && jumps(r, chain) {
				found = append(found, r)
			}
		}
	}
	return found
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
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: guestExprs(h, r), UserData: marked})
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

package nft

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Dropper is a chain of somebody else's that keeps forwarded packets out, where
// no rule of weft's in another table can let them past.
type Dropper struct {
	Chain string // "inet firewalld filter_FORWARD"
	Does  string // what it does, as the words after the chain's name
}

// Droppers finds the chains that drop or reject forwarded packets unless one
// of their own rules accepts them: by policy, or by a last rule for all that is
// left, as firewalld has. It looks at what packets pass before they are routed,
// too, and leaves out the tables that Guest has its chains in. A rule that drops
// some packets only is its owner's decision.
func Droppers() ([]Dropper, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nf_tables chains: %w", err)
	}
	var droppers []Dropper
	for _, c := range chains {
		family, ok := families[c.Table.Family]
		if !ok || !guards(c) || family != "inet" && hasGuests(c) {
			continue
		}
		does := ""
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			does = "drops by policy"
		} else {
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return nil, fmt.Errorf("list rules of %s %s %s: %w", family, c.Table.Name, c.Name, err)
			}
			if len(rules) > 0 {
				does = endOfAll(rules[len(rules)-1])
			}
		}
		if does != "" {
			droppers = append(droppers, Dropper{fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name), does + " packets that are forwarded"})
		}
	}
	return droppers, nil
}

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// guards tells whether forwarded packets pass the chain.
func guards(c *nftables.Chain) bool {
	return c.Hooknum != nil && (*c.Hooknum == *nftables.ChainHookForward || *c.Hooknum == *nftables.ChainHookPrerouting)
}

func hasGuests(c *nftables.Chain) bool {
	p := rule.Place{Table: c.Table.Name, Chain: c.Name}
	return slices.Contains(rule.From, p) || slices.Contains(rule.DockerFrom, p)
}

// endOfAll returns what a rule does if it lets no packet past it, else "".
func endOfAll(r *nftables.Rule) string {
	does := ""
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Immediate:
		case *expr.Reject:
			does = "rejects in its last rule"
		case *expr.Verdict:
			if e.Kind != expr.VerdictDrop {
				return ""
			}
			does = "drops in its last rule"
		default: // a condition
			return ""
		}
	}
	return does
}

// RemoveFlannel removes the tables of a flanneld in nftables mode that ran
// here before, and tells whether there were any. What they say of source NAT
// would be carried out wherever weft's rules leave it undecided.
func RemoveFlannel() (found bool, err error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nf_tables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return false, fmt.Errorf("list nf_tables tables: %w", err)
	}
	for _, t := range tables {
		if t.Family == nftables.TableFamilyIPv4 && t.Name == "flannel-ipv4" || t.Family == nftables.TableFamilyIPv6 && t.Name == "flannel-ipv6" {
			conn.DelTable(t)
			found = true
		}
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return found, fmt.Errorf("remove flannel's tables: %w", err)
	}
	return found, nil
}

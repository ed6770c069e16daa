package ipt

import (
	"iter"
	"slices"
	"strings"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// A table is one table out of iptables-save's output.
type table struct {
	policy map[string]string   // by chain; "-" for a user's own chain
	rules  map[string][]string // by chain, in order, without the leading "-A CHAIN "
}

// parseSave reads what iptables-save prints. Lines it does not know are passed
// over.
func parseSave(out string) map[string]*table {
	tables := map[string]*table{}
	var t *table
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			t = &table{policy: map[string]string{}, rules: map[string][]string{}}
			tables[name] = t
			continue
		}
		if t == nil {
			continue
		}
		if decl, ok := strings.CutPrefix(line, ":"); ok {
			chain, rest, _ := strings.Cut(decl, " ")
			t.policy[chain], _, _ = strings.Cut(rest, " ")
		} else if spec, ok := strings.CutPrefix(line, "-A "); ok {
			chain, spec, _ := strings.Cut(spec, " ")
			t.rules[chain] = append(t.rules[chain], spec)
		}
	}
	return tables
}

// A jump is a rule that leads to some chain.
type jump struct {
	from  string
	spec  string
	index int // in from, counted from 0
	last  bool
}

// jumpsTo finds the rules that lead to a chain.
func (t *table) jumpsTo(chain string) []jump {
	if t == nil {
		return nil
	}
	var jumps []jump
	for from, specs := range t.rules {
		for i, spec := range specs {
			if target(spec) == chain {
				jumps = append(jumps, jump{from, spec, i, i == len(specs)-1})
			}
		}
	}
	return jumps
}

// target returns what a rule jumps or goes to: a chain, a verdict or a target
// extension.
func target(spec string) string {
	leads := false
	for word := range words(spec) {
		if leads {
			return word
		}
		leads = word == "-j" || word == "-g"
	}
	return ""
}

// words splits a rule as iptables-save prints it. An argument with blanks, a
// comment for instance, is in double quotes, with backslashes before quotes
// inside it; such a word is yielded with its quotes.
func words(spec string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, quoted := -1, false
		for i := 0; i < len(spec); i++ {
			switch c := spec[i]; {
			case quoted && c == '\\':
				i++
			case c == ' ' && !quoted:
				if start >= 0 && !yield(spec[start:i]) {
					return
				}
				start = -1
				continue
			case c == '"':
				quoted = !quoted
			}
			if start < 0 {
				start = i
			}
		}
		if start >= 0 {
			yield(spec[start:])
		}
	}
}

func (t *table) has(chain string) bool {
	if t == nil {
		return false
	}
	_, ok := t.policy[chain]
	return ok
}

// survey sums up what rule.Set.Chains wants to know of one family's tables.
func survey(tables map[string]*table) rule.Live {
	var l rule.Live
	if t := tables["filter"]; t != nil {
		l.DockerUser, l.DockerForward = t.has(rule.DockerUser), t.has(rule.DockerForward)
		l.PolicyDrop = t.policy["FORWARD"] == "DROP"
		l.InUse = l.PolicyDrop || slices.ContainsFunc(t.rules["FORWARD"], func(spec string) bool {
			return target(spec) != rule.ChainForward
		})
	}
	if t := tables["raw"]; t != nil {
		l.RawDrops = slices.ContainsFunc(t.rules["PREROUTING"], func(spec string) bool {
			return target(spec) == "DROP" && strings.Contains(spec, "! -i ")
		})
	}
	return l
}

// foreign counts the rules that neither weft nor flannel made, and tells
// whether Docker's are among them.
func foreign(tables map[string]*table) (rules int, docker bool) {
	ours := map[string]bool{flannelPostrouting: true, flannelForward: true}
	for _, o := range rule.Own {
		ours[o.Chain] = true
	}
	for _, t := range tables {
		docker = docker || t.has("DOCKER")
		for chain, specs := range t.rules {
			for _, spec := range specs {
				if !ours[chain] && !ours[target(spec)] {
					rules++
				}
			}
		}
	}
	return rules, docker
}

package ipt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// ensure is Ensure for one family.
func (t *Tool) ensure(f family, set rule.Set) (r rule.Report, err error) {
	live, err := t.save(f)
	if err != nil {
		return rule.Report{}, err
	}
	others := survey(live)
	want := set.Chains(others)
	r.Answers = others.Answers(t.command(f, ""), want)
	var s script
	for _, own := range rule.Own {
		name := t.command(f, "") + " " + own.Chain
		i := slices.IndexFunc(want, func(c rule.Chain) bool { return c.Name == own.Chain })
		switch {
		case i < 0 && s.drop(own.Table, own.Chain, live[own.Table]):
			r.Changed = append(r.Changed, name)
		case i >= 0 && !t.inPlace(f, want[i], live[own.Table]):
			s.replace(want[i], live[own.Table])
			r.Changed = append(r.Changed, name)
		}
		if i >= 0 {
			r.InPlace = append(r.InPlace, name)
		}
	}
	if len(r.Changed) == 0 {
		return r, nil
	}
	if err := t.restore(f, s.String()); err != nil {
		return rule.Report{}, err
	}

	// The tool prints rules in its own wording, which differs between versions.
	// What it prints now is what the next comparison goes by.
	if live, err = t.save(f); err != nil {
		return rule.Report{}, err
	}
	for _, c := range want {
		tbl := live[c.Table]
		if !tbl.has(c.Name) || len(tbl.rules[c.Name]) != len(c.Rules) {
			return rule.Report{}, fmt.Errorf("read back %s %s: its rules are not the %d that were written", t.command(f, ""), c.Name, len(c.Rules))
		}
		t.seen[chainKey(f, c)] = contents(tbl, c.Name)
	}
	return r, nil
}

// chainKey identifies a chain together with the rules that we want in it.
func chainKey(f family, c rule.Chain) string {
	return fmt.Sprint(f, c.Table, c.Name, c.Rules)
}

func contents(t *table, chain string) string { return strings.Join(t.rules[chain], "\n") }

// inPlace tells whether a chain holds what we put there and is reached by one
// jump in the right place.
func (t *Tool) inPlace(f family, c rule.Chain, tbl *table) bool {
	if !tbl.has(c.Name) {
		return false
	}
	seen, ok := t.seen[chainKey(f, c)]
	if !ok || seen != contents(tbl, c.Name) {
		return false
	}
	jumps := tbl.jumpsTo(c.Name)
	if len(jumps) != 1 || jumps[0].from != c.From {
		return false
	}
	if c.Last {
		return jumps[0].last
	}
	return jumps[0].index == 0
}

// A script collects input for iptables-restore --noflush, by table.
type script struct {
	tables []string
	decls  map[string][]string
	lines  map[string][]string
}

func (s *script) add(table, decl string, lines ...string) {
	if !slices.Contains(s.tables, table) {
		s.tables = append(s.tables, table)
	}
	if s.lines == nil {
		s.decls, s.lines = map[string][]string{}, map[string][]string{}
	}
	if decl != "" {
		s.decls[table] = append(s.decls[table], decl)
	}
	s.lines[table] = append(s.lines[table], lines...)
}

// replace writes a chain anew, together with its jump.
func (s *script) replace(c rule.Chain, live *table) {
	var lines []string
	for _, j := range live.jumpsTo(c.Name) {
		lines = append(lines, "-D "+j.from+" "+j.spec)
	}
	if c.Last {
		lines = append(lines, "-A "+c.From+" "+jumpSpec(c.Name))
	} else {
		lines = append(lines, "-I "+c.From+" 1 "+jumpSpec(c.Name))
	}
	for _, r := range c.Rules {
		lines = append(lines, "-A "+c.Name+" "+spec(r))
	}
	// The declaration creates the chain, or empties one that is there.
	s.add(c.Table, ":"+c.Name+" - [0:0]", lines...)
}

// drop removes a chain and the jumps to it; it returns false when there is
// nothing to remove.
func (s *script) drop(table, chain string, live *table) bool {
	if !live.has(chain) {
		return false
	}
	var lines []string
	for _, j := range live.jumpsTo(chain) {
		lines = append(lines, "-D "+j.from+" "+j.spec)
	}
	s.add(table, "", append(lines, "-F "+chain, "-X "+chain)...)
	return true
}

func (s *script) String() string {
	var b strings.Builder
	for _, table := range s.tables {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, line := range slices.Concat(s.decls[table], s.lines[table]) {
			fmt.Fprintln(&b, line)
		}
		fmt.Fprintln(&b, "COMMIT")
	}
	return b.String()
}

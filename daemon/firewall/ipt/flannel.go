package ipt

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Flannel's chains, left behind by a flanneld that weft replaces.
const (
	flannelPostrouting = "FLANNEL-POSTRTG" // nat
	flannelForward     = "FLANNEL-FWD"     // filter
)

// RemoveFlannel removes the rules of a flanneld that ran here before and tells
// whether there were any. Left alone they would masquerade, to this node's own
// underlay address, what weft's rules leave undecided, whenever the subnet is
// no longer the one that flanneld had leased. A flanneld that comes back makes
// its rules anew.
func (t *Tool) RemoveFlannel() (found bool, err error) {
	var errs []error
	for _, f := range []family{ipv4, ipv6} {
		live, err := t.save(f)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var s script
		for _, c := range []struct{ table, chain, comment string }{
			{"nat", flannelPostrouting, `--comment "flanneld masq"`},
			{"filter", flannelForward, `--comment "flanneld forward"`},
		} {
			s.drop(c.table, c.chain, live[c.table])
			// Before it had chains, flanneld put its rules directly in place.
			s.dropRules(c.table, live[c.table], func(chain, spec string) bool {
				return chain != c.chain && target(spec) != c.chain && strings.Contains(spec, c.comment)
			})
		}
		if len(s.tables) == 0 {
			continue
		}
		found = true
		if err := t.restore(f, s.String()); err != nil {
			errs = append(errs, fmt.Errorf("remove flannel's rules: %w", err))
		}
	}
	return found, errors.Join(errs...)
}

func (s *script) dropRules(table string, live *table, match func(chain, spec string) bool) {
	if live == nil {
		return
	}
	for chain, specs := range live.rules {
		for _, spec := range specs {
			if match(chain, spec) {
				s.add(table, "", "-D "+chain+" "+spec)
			}
		}
	}
}

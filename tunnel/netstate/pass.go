package netstate

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// pass is one comparison of the desired with the actual state. Each kind of
// object is one method on it; it calls fix or pend for what differs.
type pass struct {
	kernel  *kernel
	want    State
	heals   heals
	healing bool // put back in the background, not asked for by Apply
	now     time.Time

	links  map[string]netlink.Link    // by name, nil if absent; of the names asked for
	others map[routeKey]netlink.Route // other programs' routes of desired keys; nil until asked for

	problems []Problem
	healed   []change
	remade   []change // devices, also by Apply
	fights   []change
}

// change is an object that was put back, and how it was before.
type change struct{ object, was string }

// run compares everything, in the order in which one thing needs another: a
// link's parameters before it is up, its addresses before routes use them as
// source, neighbours before routes lead to them.
func (p *pass) run() {
	p.links = make(map[string]netlink.Link)
	p.makeLinks()
	p.sysctls()
	p.setLinks()
	p.addrs()
	removeStale := p.neighs()
	p.routes()
	removeStale()
	p.heals.forget(p.now)
}

// fix calls write for an object that differs, unless it is being fought over.
func (p *pass) fix(object fmt.Stringer, was string, write func() error) {
	name := object.String()
	if wait := p.heals.blocked(name, p.now); p.healing && wait > 0 {
		p.fail(name, fmt.Errorf("%w (%s): find and stop that program; next try in %v", errFought, was, wait.Round(time.Second)))
		return
	}
	switch err := write(); {
	case errors.Is(err, errNotNear):
		p.pend(object, err)
		return
	case err != nil:
		p.fail(name, err)
		return
	}
	if !p.healing {
		return
	}
	p.healed = append(p.healed, change{name, was})
	if p.heals.note(name, p.now) {
		p.fights = append(p.fights, change{name, was})
	}
}

// fail and pend note that an object is not as desired.
func (p *pass) fail(object string, err error) {
	p.problems = append(p.problems, Problem{Object: object, Err: err, Since: p.now})
}

func (p *pass) pend(object fmt.Stringer, err error) {
	p.problems = append(p.problems, Problem{Object: object.String(), Err: err, Since: p.now, Pending: true})
}

// firstError is what Apply returns.
func (p *pass) firstError() error {
	for _, problem := range p.problems {
		if !problem.Pending {
			return fmt.Errorf("%s: %w", problem.Object, problem.Err)
		}
	}
	return nil
}

// link finds a link by its name, once per pass; nil if there is none.
func (p *pass) link(name string) (netlink.Link, error) {
	if l, ok := p.links[name]; ok {
		return l, nil
	}
	l, err := p.kernel.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		l, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	p.links[name] = l
	return l, nil
}

var (
	errLinkAbsent = errors.New("the link does not exist now")
	errLinkDown   = errors.New("the link is down")
	errNotNear    = errors.New("not on the link")
	errFought     = errors.New("another program keeps changing it")
)

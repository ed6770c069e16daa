package netstate

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setLinks compares the properties of links.
func (p *pass) setLinks() {
	for _, want := range p.want.Links {
		l, err := p.link(want.Name)
		switch {
		case err != nil:
			p.fail(want.String(), err)
		case l == nil:
			p.pend(want, errLinkAbsent)
		default:
			p.setLink(want, l)
		}
	}
}

func (p *pass) setLink(want Link, l netlink.Link) {
	attrs := l.Attrs()
	p.mark(want, l)
	p.setMAC(want, l)
	p.setTxChecksum(want)
	if want.MTU != 0 && attrs.MTU != want.MTU {
		p.fix(want, fmt.Sprintf("MTU was %d", attrs.MTU), func() error {
			return explain("set MTU", p.kernel.LinkSetMTU(l, want.MTU))
		})
	}
	if want.TxQueueLen != 0 && attrs.TxQLen != want.TxQueueLen {
		p.fix(want, fmt.Sprintf("transmit queue was %d", attrs.TxQLen), func() error {
			return explain("set transmit queue", p.kernel.LinkSetTxQLen(l, want.TxQueueLen))
		})
	}
	if want.Up && attrs.Flags&net.FlagUp == 0 {
		p.fix(want, "was down", func() error {
			err := p.kernel.LinkSetUp(l)
			if err == nil {
				attrs.Flags |= net.FlagUp // for the routes in this pass
			}
			return explain("bring up", err)
		})
	}
	if want.Down && attrs.Flags&net.FlagUp != 0 {
		p.fix(want, "was up", func() error {
			err := p.kernel.LinkSetDown(l)
			if err == nil {
				attrs.Flags &^= net.FlagUp
			}
			return explain("take down", err)
		})
	}
}

// explain adds what a user can do about a refusal.
func explain(verb string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: %w: run weftd as root or with CAP_NET_ADMIN", verb, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Where a path's packets are to be carried. That they are is looked at before
// the first sample and after each one.
type place string

const (
	kernelToo place = "by the kernel, too" // weftd's assist, where this kernel can do it
	userSpace place = "in user space"      // all of them
)

// assistInForce is what is told where the assist is; otherwise it is the reason.
const assistInForce = "in force"

// weftdStatus is what is read of `weftd status --json`.
type weftdStatus struct {
	Backend struct {
		Capabilities []struct {
			Name string `json:"name"`
			On   bool   `json:"on"`
			Why  string `json:"why"`
		} `json:"capabilities"`
		Peers []struct {
			TxPackets    uint64 `json:"tx_packets"`
			Superpackets bool   `json:"superpackets_by_kernel"`
		} `json:"peers"`
		ByKernel struct {
			TxPackets uint64 `json:"tx_packets"`
		} `json:"by_kernel"` // of those of the peers
	} `json:"backend"`
}

// statuses asks the daemons of the path that are weftd.
func (p *path) statuses(ctx context.Context) (list []weftdStatus, err error) {
	for _, w := range p.weftds {
		// A node that is not ready, on a machine this busy, answers with an error, too.
		answer, err := w.Status(ctx)
		var s weftdStatus
		if json.Unmarshal(answer, &s) != nil {
			return nil, fmt.Errorf("ask weftd in %s for its status: %w", w.Host.Name, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// findAssist notes whether the assist is in force on both hosts, or why not. It
// is an error if it is where the path is to be without.
func (p *path) findAssist(ctx context.Context) error {
	if p.carried == "" {
		return nil
	}
	statuses, err := p.statuses(ctx)
	if err != nil {
		return err
	}
	p.assist = assistInForce
	for _, s := range statuses {
		if why := s.withoutAssist(); why != "" {
			p.assist = why
		}
	}
	if p.carried == userSpace && p.assist == assistInForce {
		return fmt.Errorf("the kernel assist is in force, where all packets are to be carried %s", userSpace)
	}
	return nil
}

// waitSuperpackets waits until the kernels carry superpackets both ways, if both
// can: that takes a trial, and the first transfer should not be without.
func (p *path) waitSuperpackets(ctx context.Context) error {
	for {
		statuses, err := p.statuses(ctx)
		if err != nil {
			return err
		}
		able, carrying := 0, 0
		for _, s := range statuses {
			if s.without("assist_gso") == "" {
				able++
			}
			for _, peer := range s.Backend.Peers {
				if peer.Superpackets {
					carrying++
				}
			}
		}
		if able < len(statuses) || carrying == len(statuses) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("superpackets do not arrive whole, on an underlay that does not cut them: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withoutAssist is why the assist is off, "" if it is not.
func (s weftdStatus) withoutAssist() string { return s.without("assist") }

// without is why a capability is off, "" if it is not.
func (s weftdStatus) without(capability string) string {
	for _, c := range s.Backend.Capabilities {
		if c.Name == capability && c.On {
			return ""
		}
		if c.Name == capability {
			return "off: " + c.Why
		}
	}
	return "off: this engine has none"
}

// tally counts the packets that a path's hosts have sent each other.
type tally struct{ all, byKernel uint64 }

func (p *path) tally(ctx context.Context) (n tally, err error) {
	if p.carried == "" {
		return n, nil // nobody counts
	}
	statuses, err := p.statuses(ctx)
	for _, s := range statuses {
		n.byKernel += s.Backend.ByKernel.TxPackets
		for _, peer := range s.Backend.Peers {
			n.all += peer.TxPackets
		}
	}
	return n, err
}

// proof tells who carried the packets of a sample, and returns an error if that
// is not who was to.
func (p *path) proof(before, after tally) ([]metric, error) {
	all, byKernel := after.all-before.all, after.byKernel-before.byKernel
	switch {
	case p.carried == "":
		return nil, nil
	case all == 0:
		return nil, errors.New("weftd counts no packet: it was not this path that was measured")
	case p.assist != assistInForce && byKernel > 0:
		return nil, fmt.Errorf("the kernel carried %d of %d packets, without an assist", byKernel, all)
	case p.assist != assistInForce:
		return nil, nil
	case byKernel == 0:
		return nil, fmt.Errorf("the kernel carried none of %d packets, with its assist in force", all)
	}
	return []metric{{"by_kernel", "%", 100 * float64(byKernel) / float64(all)}}, nil
}

// Package firewall keeps the rules that a node needs for its containers: source
// NAT towards the outside, accepts where forwarded packets would be dropped,
// and the TCP MSS of connections through the overlay.
//
// Start reading at config.go: it says which rules. Package rule describes them
// and lays them out in chains; ipt and nft carry them out. Rules are marked
// with the comment "weft", live in chains of weft's own, and are compared with
// the desired state again and again.
package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/weftnet/weft/daemon/firewall/ipt"
	"github.com/weftnet/weft/daemon/firewall/nft"
	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Firewall keeps one node's rules. Its methods may be called concurrently.
type Firewall struct {
	log  *slog.Logger
	host host

	mu       sync.Mutex
	chosen   choice
	table    nft.Table // the own nf_tables table
	guest    nft.Guest // accepts in iptables-nft's tables while these are not in force
	docker   nft.Guest // accepts in Docker's own nf_tables tables
	want     *rule.Sets
	settled  bool // leftovers of other modes and of flannel are gone
	restored int
	rules    []string
	answers  []string
	fighting string // by somebody who removes weft's rules each time
	notes    []string
	problem  string
}

// Status is the state of the firewall for people to read.
type Status struct {
	Mode     Mode     `json:"mode"`
	Why      string   `json:"why"`               // why this mode
	Rules    []string `json:"rules"`             // the chains that hold weft's rules
	Answers  []string `json:"answers,omitempty"` // what others drop, Docker above all, and how weft answered it
	Notes    []string `json:"notes,omitempty"`   // what stands in the way and is not weft's to change
	Problem  string   `json:"problem,omitempty"` // why the rules are not in place; empty when they are
	Restored int      `json:"restored"`          // times that changed rules were put back
}

// New finds out what the host offers and settles on a mode. It makes no rules.
func New(mode Mode, log *slog.Logger) (*Firewall, error) {
	h := inspect()
	c, err := choose(h, mode, log)
	if err != nil {
		return nil, err
	}
	return &Firewall{
		log: log, host: h, chosen: c, docker: nft.Guest{Host: nft.Docker},
		problem: "no rules applied yet",
	}, nil
}

// Status returns the present state.
func (f *Firewall) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	notes := slices.Clone(f.notes)
	if f.fighting != "" {
		notes = append(notes, f.fighting)
	}
	return Status{
		Mode:     f.chosen.mode,
		Why:      f.chosen.why,
		Rules:    slices.Clone(f.rules),
		Answers:  slices.Clone(f.answers),
		Notes:    notes,
		Problem:  f.problem,
		Restored: f.restored,
	}
}

// Apply makes cfg the desired state and the rules match it. On an error the
// desired state stands, and Run goes on trying.
func (f *Firewall) Apply(cfg Config) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sets := cfg.rules()
	f.want = &sets
	changed, err := f.reconcile()
	if err != nil {
		return fmt.Errorf("apply firewall rules: %w", err)
	}
	if len(changed) > 0 {
		f.log.Info("firewall rules in place", "mode", f.chosen.mode, "why", f.chosen.why, "changed", strings.Join(changed, ", "))
	}
	return nil
}

// reconcile compares the rules with the desired state, writes what differs and
// returns the names of what it wrote. The caller holds the mutex.
func (f *Firewall) reconcile() (changed []string, err error) {
	report, err := f.writeRules(*f.want)
	f.rules, f.answers = report.InPlace, report.Answers
	f.notes = f.limits()
	if err == nil && !f.settled {
		// Last, so that there is no moment without any rules.
		err = f.removeLeftovers()
		f.settled = err == nil
	}
	f.problem = ""
	if err != nil {
		f.problem = err.Error()
	}
	return report.Changed, err
}

// writeRules makes the full set in the firewall that the mode in force names,
// and the accepting rules also in every other one that filters: a packet must
// pass them all. What else weft once made in the others goes.
func (f *Firewall) writeRules(sets rule.Sets) (rule.Report, error) {
	var total rule.Report
	var errs []error
	ensure := func(in interface {
		Ensure(rule.Sets) (rule.Report, error)
	}, sets rule.Sets) {
		r, err := in.Ensure(sets)
		total.Add(r)
		errs = append(errs, err)
	}
	if f.chosen.tool != nil {
		ensure(f.chosen.tool, sets)
	} else {
		ensure(&f.table, sets)
	}
	if legacy := f.host.tool(ipt.Legacy); legacy != nil && f.chosen.tool != legacy && ipt.LegacyInUse() {
		ensure(legacy, sets.Guest())
	}
	if f.host.nftables == nil && f.chosen.mode != ModeIPTablesNFT {
		ensure(&f.guest, sets.Guest())
	}
	if f.host.nftables == nil {
		ensure(&f.docker, sets.Guest())
	}
	return total, errors.Join(errs...)
}

// limits names what keeps forwarded packets out and cannot be helped by weft.
func (f *Firewall) limits() (notes []string) {
	if len(f.want.IPv4.Forward)+len(f.want.IPv6.Forward) == 0 {
		return nil
	}
	if f.host.nftables == nil {
		droppers, err := nft.Droppers()
		if err != nil {
			notes = append(notes, err.Error())
		}
		for _, d := range droppers {
			notes = append(notes, fmt.Sprintf("nftables chain %s %s, and no rule elsewhere can undo that: accept the cluster network there", d.Chain, d.Does))
		}
	}
	if f.host.tool(ipt.Legacy) == nil && ipt.LegacyInUse() {
		notes = append(notes, "the kernel has iptables-legacy tables, and no iptables-legacy command was found to look into them")
	}
	return notes
}

// removeLeftovers removes what a flanneld left behind that weft replaces, and
// weft's own table if an earlier run worked with it.
func (f *Firewall) removeLeftovers() error {
	var errs []error
	found := false
	for _, t := range f.host.tools {
		if t == f.chosen.tool || t.Flavour == ipt.Legacy && ipt.LegacyInUse() || t.Flavour == ipt.NFT && f.host.nftables == nil {
			ok, err := t.RemoveFlannel()
			found, errs = found || ok, append(errs, err)
		}
	}
	if f.host.nftables == nil {
		ok, err := nft.RemoveFlannel()
		found, errs = found || ok, append(errs, err)
		if f.chosen.mode != ModeNFTables {
			_, err := f.table.Ensure(rule.Sets{})
			errs = append(errs, err)
		}
	}
	if found {
		f.log.Info("removed the firewall rules that flannel left; weft's are in place instead")
	}
	return errors.Join(errs...)
}

package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/weftnet/weft/daemon/firewall/ipt"
	"github.com/weftnet/weft/daemon/firewall/nft"
)

// Mode says with which tool the rules are made.
type Mode string

const (
	ModeAuto           Mode = "auto"            // iptables if the host has it, else nftables
	ModeIPTables       Mode = "iptables"        // the flavour that holds the host's rules
	ModeIPTablesNFT    Mode = "iptables-nft"    // iptables on nf_tables
	ModeIPTablesLegacy Mode = "iptables-legacy" // iptables on x_tables
	ModeNFTables       Mode = "nftables"        // an own nf_tables table, over netlink
)

// host is what the node offers for rules.
type host struct {
	tools    []*ipt.Tool // the default flavour first
	nftables error       // why nf_tables cannot be used, nil if it can
}

func inspect() host {
	return host{tools: ipt.Find(), nftables: nft.Supported()}
}

// tool returns the commands of a flavour, nil if they are not installed.
func (h host) tool(f ipt.Flavour) *ipt.Tool {
	for _, t := range h.tools {
		if t.Flavour == f {
			return t
		}
	}
	return nil
}

// choice is the mode in force, one of the last three, and why. The tool is nil
// in nftables mode.
type choice struct {
	mode Mode
	tool *ipt.Tool
	why  string
}

func choose(h host, mode Mode, log *slog.Logger) (choice, error) {
	switch mode {
	case ModeNFTables:
		if h.nftables != nil {
			return choice{}, fmt.Errorf("nftables: %w; or use iptables", h.nftables)
		}
		return choice{mode: ModeNFTables, why: "asked for"}, nil
	case ModeIPTablesNFT, ModeIPTablesLegacy:
		t := h.tool(ipt.Flavour(mode))
		if t == nil {
			return choice{}, fmt.Errorf("%s: not found in PATH: install the package iptables, or use nftables", mode)
		}
		if err := t.Usable(); err != nil {
			return choice{}, fmt.Errorf("%s: %w", mode, err)
		}
		return choice{mode: mode, tool: t, why: "asked for"}, nil
	case ModeIPTables:
		return chooseFlavour(h.tools, log)
	case ModeAuto:
		c, err := chooseFlavour(h.tools, log)
		if err == nil {
			return c, nil
		}
		if h.nftables != nil {
			return choice{}, fmt.Errorf("no firewall to put rules in: %w; nftables: %w", err, h.nftables)
		}
		return choice{mode: ModeNFTables, why: err.Error()}, nil
	default:
		return choice{}, fmt.Errorf("firewall mode %q: want auto, iptables, iptables-nft, iptables-legacy or nftables", mode)
	}
}

// chooseFlavour picks the iptables flavour that holds the host's rules:
// Docker's before all, else the greater number, else the default.
func chooseFlavour(tools []*ipt.Tool, log *slog.Logger) (choice, error) {
	if len(tools) == 0 {
		return choice{}, errors.New("iptables: not found in PATH: install the package iptables, or use nftables")
	}
	type candidate struct {
		choice
		rules  int
		docker bool
	}
	var candidates []candidate
	holders := 0
	for _, t := range tools {
		c := candidate{choice: choice{mode: Mode(t.Flavour), tool: t}}
		c.rules, c.docker = t.Foreign()
		switch {
		case c.docker:
			c.why = "it holds Docker's rules"
		case c.rules > 0:
			c.why = "it holds the host's rules"
		case t.Default:
			c.why = "it is what the command iptables stands for"
		default:
			c.why = "it is installed"
		}
		if c.rules > 0 {
			holders++
		}
		candidates = append(candidates, c)
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		if a.docker != b.docker {
			if a.docker {
				return -1
			}
			return 1
		}
		return b.rules - a.rules
	})
	var unusable []error
	for _, c := range candidates {
		// Not before it is this one's turn: trying the legacy flavour makes
		// the kernel set up its tables.
		if err := c.tool.Usable(); err != nil {
			unusable = append(unusable, err)
			continue
		}
		if holders > 1 {
			log.Warn("both iptables-nft and iptables-legacy hold rules; packets must pass both, and each shows only its own",
				"chosen", c.mode, "why", c.why, "other choices", "--firewall")
		}
		return c.choice, nil
	}
	return choice{}, errors.Join(unusable...)
}

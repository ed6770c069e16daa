package rule

import "fmt"

// Weft's own chains in the tables of iptables (whether their kernel side is
// x_tables or nf_tables) and in those of Docker.
const (
	ChainPostrouting = "WEFT-POSTROUTING"
	ChainMSS         = "WEFT-MSS"
	ChainRaw         = "WEFT-RAW"
	ChainOverlay     = "WEFT-OVERLAY"
	ChainForward     = "WEFT-FORWARD"
)

// Chains of Docker's in the filter table.
const (
	// DockerUser is left to the administrator and walked before Docker's rules.
	DockerUser = "DOCKER-USER"
	// DockerForward is there from Docker 28.0.1 on. Those versions drop, in the
	// raw table, what is routed to a container's address from elsewhere than
	// its bridge, with one rule for each container that runs.
	DockerForward = "DOCKER-FORWARD"
)

// Place names a chain in a table.
type Place struct{ Table, Chain string }

// Own lists weft's chains in iptables' tables, in the order in which they are
// handled.
var Own = []Place{
	{"nat", ChainPostrouting},
	{"mangle", ChainMSS},
	{"raw", ChainRaw},
	{"filter", ChainOverlay},
	{"filter", ChainForward},
}

// From lists the chains that jump to weft's.
var From = []Place{
	{"nat", "POSTROUTING"},
	{"mangle", "FORWARD"},
	{"raw", "PREROUTING"},
	{"filter", "FORWARD"},
	{"filter", DockerUser},
}

// Chain is one of weft's chains and the single rule that jumps to it.
type Chain struct {
	Table, Name string
	From        string // the chain that jumps here
	Last        bool   // the jump is From's last rule, otherwise its first
	Rules       []Rule
}

// Live is what others did in iptables' tables of one family, as far as it
// decides where weft's rules belong.
type Live struct {
	DockerUser    bool // the chain DOCKER-USER exists
	DockerForward bool // the chain DOCKER-FORWARD exists
	PolicyDrop    bool // FORWARD drops by policy
	InUse         bool // FORWARD drops by policy or has rules that are not weft's

	// RawDrops: PREROUTING of the raw table drops what comes by any device but
	// one, as Docker does. What an administrator drops otherwise is no concern of
	// weft's.
	RawDrops bool
}

// Chains lays the set out in chains. Chains without rules are left out.
//
// Where Docker filters, everything at the head of DOCKER-USER would also
// bypass Docker's isolation of its bridges from each other and from the
// outside. So only what goes between nodes is accepted there; the rest gets
// its accept at the end of FORWARD, after Docker's drops and before the policy.
func (s Set) Chains(l Live) []Chain {
	var all []Chain
	if l.RawDrops || l.DockerForward {
		all = append(all, Chain{Table: "raw", Name: ChainRaw, From: "PREROUTING", Rules: s.Raw})
	}
	if !s.guest || l.InUse {
		all = append(all,
			Chain{Table: "nat", Name: ChainPostrouting, From: "POSTROUTING", Rules: s.Postrouting},
			Chain{Table: "mangle", Name: ChainMSS, From: "FORWARD", Rules: s.Clamp})
		if l.DockerUser {
			all = append(all, Chain{Table: "filter", Name: ChainOverlay, From: DockerUser, Rules: s.Overlay})
		}
		all = append(all, Chain{Table: "filter", Name: ChainForward, From: "FORWARD", Last: l.DockerUser, Rules: s.Forward})
	}
	return withRules(all)
}

func withRules(all []Chain) (chains []Chain) {
	for _, c := range all {
		if len(c.Rules) > 0 {
			chains = append(chains, c)
		}
	}
	return chains
}

// Answers says, for people to read, what drops forwarded packets in the tables
// that a tool manages, and which of the chains accepts before that.
func (l Live) Answers(tool string, chains []Chain) (answers []string) {
	for _, c := range chains {
		what := ""
		switch {
		case c.Name == ChainRaw:
			what = "raw PREROUTING drops packets routed to containers (Docker 28 and later); those from other nodes are accepted before"
		case c.Name == ChainOverlay:
			what = "Docker filters forwarded packets; those between nodes are accepted before, from DOCKER-USER"
		case c.Name == ChainForward && l.PolicyDrop:
			what = "FORWARD drops by policy; the network's packets are accepted"
		default:
			continue
		}
		answers = append(answers, fmt.Sprintf("%s: %s, in %s", tool, what, c.Name))
	}
	return answers
}

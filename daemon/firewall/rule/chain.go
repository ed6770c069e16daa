package rule

// Weft's own chains in the tables that iptables manages (whether their kernel
// side is x_tables or nf_tables).
const (
	ChainPostrouting = "WEFT-POSTROUTING"
	ChainMSS         = "WEFT-MSS"
	ChainOverlay     = "WEFT-OVERLAY"
	ChainForward     = "WEFT-FORWARD"
)

// DockerUser is the chain that Docker leaves to the administrator and walks
// before its own rules.
const DockerUser = "DOCKER-USER"

// Place names a chain in a table.
type Place struct{ Table, Chain string }

// Own lists weft's chains, in the order in which they are handled.
var Own = []Place{
	{"nat", ChainPostrouting},
	{"mangle", ChainMSS},
	{"filter", ChainOverlay},
	{"filter", ChainForward},
}

// From lists the chains that jump to weft's.
var From = []Place{
	{"nat", "POSTROUTING"},
	{"mangle", "FORWARD"},
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

// FilterTable is what others did to the filter table of one family, as far as
// it decides where weft's rules belong.
type FilterTable struct {
	DockerUser bool // the chain DOCKER-USER exists
	InUse      bool // FORWARD drops by policy or has rules that are not weft's
}

// Chains lays the set out in chains. Chains without rules are left out.
//
// Where Docker filters, everything at the head of DOCKER-USER would also
// bypass Docker's isolation of its bridges from each other and from the
// outside. So only what the overlay carries is accepted there; the rest gets
// its accept at the end of FORWARD, after Docker's drops and before the policy.
func (s Set) Chains(f FilterTable) []Chain {
	if s.guest && !f.InUse {
		return nil
	}
	all := []Chain{
		{Table: "nat", Name: ChainPostrouting, From: "POSTROUTING", Rules: s.Postrouting},
		{Table: "mangle", Name: ChainMSS, From: "FORWARD", Rules: s.Clamp},
	}
	if f.DockerUser {
		all = append(all, Chain{Table: "filter", Name: ChainOverlay, From: DockerUser, Rules: s.Overlay})
	}
	all = append(all, Chain{Table: "filter", Name: ChainForward, From: "FORWARD", Last: f.DockerUser, Rules: s.Forward})

	var chains []Chain
	for _, c := range all {
		if len(c.Rules) > 0 {
			chains = append(chains, c)
		}
	}
	return chains
}

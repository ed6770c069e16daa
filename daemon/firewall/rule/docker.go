package rule

// Docker 29 can filter with nftables by itself, instead of iptables (its
// option firewall-backend). Its tables "docker-bridges", one for each of the
// families ip and ip6, then drop what is routed to containers twice: before
// connection tracking, unless the daemon allows direct routing, and in forward,
// unless the port is published. An accept in another table undoes neither, and
// there is no DOCKER-USER. So weft's chains stand in Docker's tables.
//
// Docker rewrites a chain whenever it has another rule for it, which removes
// the jump: raw-PREROUTING with each container that starts or ends,
// filter-FORWARD when dockerd starts.

// DockerTable is the name of Docker's own tables.
const DockerTable = "docker-bridges"

const (
	dockerRaw     = "raw-PREROUTING"
	dockerForward = "filter-FORWARD"
)

// DockerOwn and DockerFrom are Own and From for Docker's tables.
var (
	DockerOwn  = []Place{{DockerTable, ChainRaw}, {DockerTable, ChainOverlay}}
	DockerFrom = []Place{{DockerTable, dockerRaw}, {DockerTable, dockerForward}}
)

// DockerChains lays the set out in chains for Docker's tables; exists tells
// which chains Docker has made. Chains without rules are left out.
func (s Set) DockerChains(exists func(Place) bool) []Chain {
	var all []Chain
	for _, c := range []Chain{
		{Table: DockerTable, Name: ChainRaw, From: dockerRaw, Rules: s.Raw},
		{Table: DockerTable, Name: ChainOverlay, From: dockerForward, Rules: s.Overlay},
	} {
		if exists(Place{c.Table, c.From}) {
			all = append(all, c)
		}
	}
	return withRules(all)
}

// DockerAnswers is Live.Answers for Docker's tables.
func DockerAnswers(tool string, chains []Chain) (answers []string) {
	for _, c := range chains {
		what := "Docker drops packets routed to its containers"
		if c.Name == ChainOverlay {
			what = "Docker drops packets for ports that are not published"
		}
		answers = append(answers, tool+": "+what+"; those between nodes are accepted before, from "+c.From+", in "+c.Name)
	}
	return answers
}

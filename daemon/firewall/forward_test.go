package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// dropForward is a host that lets nothing through by itself.
func dropForward(t *testing.T, n *node, mode Mode) {
	for _, a := range []addrs{v4, v6} {
		n.sh(t, mode.command(a)+" -P FORWARD DROP")
	}
}

// dockerForward lays out FORWARD as Docker (27) does for two bridges: docker0,
// which is leased, and br-other, which is not.
func dockerForward(t *testing.T, n *node, mode Mode) {
	for _, a := range []addrs{v4, v6} {
		script := `
-P FORWARD DROP
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A DOCKER-USER -j RETURN
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i br-other ! -o br-other -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o br-other -j DROP`
		for line := range strings.Lines(strings.TrimSpace(script)) {
			n.sh(t, mode.command(a)+" "+strings.TrimSpace(line))
		}
	}
}

// checkForwarding goes every way through the host that the cluster uses.
func checkForwarding(t *testing.T, n *node) {
	t.Helper()
	for _, a := range []addrs{v4, v6} {
		checkSources(t, n, a)
	}
}

func TestForwardPolicyDrop(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		dropForward(t, n, mode)
		cfg := full()
		cfg.Forward = false
		fw := n.start(t, mode, cfg)
		wantDropped(t, "without forward rules, container to remote", n.container, n.remote, v4.remote)
		n.apply(t, fw, full())
		checkForwarding(t, n)
		n.apply(t, fw, cfg)
		wantDropped(t, "forward rules taken back, container to remote", n.container, n.remote, v6.remote)
	})
}

func TestForwardBesideDocker(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		must(t, n.host.Bridge("br-other", bridgeMTU))
		must(t, n.host.AddAddr("br-other", netip.MustParsePrefix("172.18.0.1/16")))
		dockerForward(t, n, mode)
		wantDropped(t, "without weft, remote to container", n.remote, n.container, v4.container)
		n.start(t, mode, full())
		checkForwarding(t, n)

		ipt := mode.command(v4)
		if first := firstRule(n.sh(t, ipt+" -S DOCKER-USER")); !strings.HasSuffix(first, "-j WEFT-OVERLAY") {
			t.Errorf("first rule of DOCKER-USER is %q, want the jump to WEFT-OVERLAY", first)
		}
		// Docker's own decisions come before the rest of weft's accepts.
		forward := strings.Split(strings.TrimSpace(n.sh(t, ipt+" -S FORWARD")), "\n")
		if last := forward[len(forward)-1]; !strings.HasSuffix(last, "-j WEFT-FORWARD") {
			t.Errorf("last rule of FORWARD is %q, want the jump to WEFT-FORWARD", last)
		}

		// As docs/docker.md says to drop some of what goes between nodes.
		n.sh(t, "nft 'add table inet mine; add chain inet mine fence { type filter hook forward priority 0; }; add rule inet mine fence ip saddr 10.5.2.0/24 ip daddr 10.5.34.2 drop'")
		wantDropped(t, "remote to container, fenced off", n.remote, n.container, v4.container)
	})
}

// Docker keeps its bridges apart, and so must a host with weft.
func TestDockersIsolationHolds(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		// The neighbour stands for a container on another Docker bridge.
		must(t, n.host.Bridge("br-other", bridgeMTU, "eth0"))
		must(t, n.host.AddAddr("br-other", netip.MustParsePrefix("172.18.0.1/16")))
		must(t, n.outside.AddAddr("eth0", netip.MustParsePrefix("172.18.0.2/16")))
		must(t, n.outside.AddRoute(netip.MustParsePrefix("10.5.34.0/24"), netip.MustParseAddr("172.18.0.1")))
		other := netip.MustParseAddr("172.18.0.2")
		wantSource(t, "without Docker, other bridge to container", n.outside, other, n.container, v4.container, other)
		dockerForward(t, n, mode)
		n.start(t, mode, full())
		wantDropped(t, "other bridge to container", n.outside, n.container, v4.container)
		wantDropped(t, "container to other bridge", n.container, n.outside, other)
		wantSource(t, "container to remote", n.container, netip.Addr{}, n.remote, v4.remote, v4.container)
	})
}

// A drop in one firewall cannot be undone in another: the accepts must be in
// both flavours when both drop, whichever mode is in force.
func TestForwardDropInOtherFlavour(t *testing.T) {
	requireLegacy(t)
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		dropForward(t, n, ModeIPTablesNFT)
		dropForward(t, n, ModeIPTablesLegacy)
		fw := n.start(t, mode, full())
		checkForwarding(t, n)
		for _, want := range map[Mode][]string{
			ModeIPTablesNFT:    {"iptables WEFT-FORWARD", "iptables-legacy WEFT-FORWARD"},
			ModeIPTablesLegacy: {"iptables-legacy WEFT-FORWARD", "nft ip filter WEFT-FORWARD"},
			ModeNFTables:       {"nft inet weft", "iptables-legacy WEFT-FORWARD", "nft ip filter WEFT-FORWARD", "nft ip6 filter WEFT-FORWARD"},
		}[mode] {
			if s := fw.Status(); !slices.Contains(s.Rules, want) {
				t.Errorf("status lists %q, want %q among them", s.Rules, want)
			}
		}
	})
}

// What keeps packets out in a table of somebody else's is named, for weft cannot
// help it; what drops some packets only is not.
func TestForeignDropIsNamed(t *testing.T) {
	const forward, prerouting = "{ type filter hook forward priority 10; }", "{ type filter hook prerouting priority -290; }"
	for _, c := range []struct{ name, chain, rules, want string }{
		{"policy", "{ type filter hook forward priority 0; policy drop; }", "", "drops by policy"},
		{"raw policy", "{ type filter hook prerouting priority -300; policy drop; }", "ct state established accept", "drops by policy"},
		{"last rule rejects, as firewalld's", forward, "ct state established accept; add rule inet fence passing iifname lo accept; add rule inet fence passing reject with icmpx type admin-prohibited", "rejects in its last rule"},
		{"last rule drops", forward, "ip saddr 10.0.0.0/8 accept; add rule inet fence passing counter log drop", "drops in its last rule"},
		{"some are dropped", forward, "ct state invalid drop", ""},
		{"some are rejected", prerouting, "ip daddr 10.9.9.9 reject with icmpx type admin-prohibited", ""},
		{"all are accepted", prerouting, "accept", ""},
		{"another hook", "{ type filter hook input priority 0; policy drop; }", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			script := "add table inet fence; add chain inet fence passing " + c.chain
			if c.rules != "" {
				script += "; add rule inet fence passing " + c.rules
			}
			n.sh(t, "nft '"+script+"'")
			fw := n.start(t, ModeNFTables, full())
			notes := strings.Join(fw.Status().Notes, "\n")
			if c.want == "" && notes != "" || !strings.Contains(notes, c.want) || c.want != "" && !strings.Contains(notes, "inet fence passing") {
				t.Errorf("status notes are %q, want %q of inet fence passing", notes, c.want)
			}
		})
	}
}

// firstRule returns the first rule that iptables -S printed.
func firstRule(out string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "-A ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

package firewall

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// docker28 lays out the rules that Docker 28 makes for docker0 with the node's
// container, in the order in which it does (moby v28.5.2,
// libnetwork/drivers/bridge/internal/iptabler): nothing is published.
func docker28(t *testing.T, n *node, mode Mode) {
	for _, a := range []addrs{v4, v6} {
		script := `
-P FORWARD DROP
-N DOCKER
-N DOCKER-FORWARD
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-INTERNAL
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-INTERNAL
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-t raw -A PREROUTING -d ` + a.container.String() + ` ! -i docker0 -j DROP`
		for line := range strings.Lines(strings.TrimSpace(script)) {
			n.sh(t, mode.command(a)+" "+strings.TrimSpace(line))
		}
	}
}

// docker29 lays out Docker's own nf_tables tables for the same (moby v29.7.2,
// daemon/libnetwork/drivers/bridge/internal/nftabler), without the NAT chains.
func docker29(t *testing.T, n *node) {
	for _, a := range []addrs{v4, v6} {
		n.sh(t, "nft -f - <<'EOF'"+docker29Table(a)+"EOF")
	}
}

func docker29Table(a addrs) string {
	family := "ip"
	if a.bits == 128 {
		family = "ip6"
	}
	return strings.NewReplacer("FAMILY", family, "CONTAINER", a.container.String()).Replace(`
table FAMILY docker-bridges {
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-in__docker0 }
	}
	map filter-forward-out-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-out__docker0 }
	}
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname vmap @filter-forward-in-jumps
		iifname vmap @filter-forward-out-jumps
	}
	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		FAMILY daddr CONTAINER iifname != { "docker0" } counter drop comment "DROP DIRECT ACCESS"
	}
	chain filter-forward-in__docker0 {
		ct state established,related counter accept
		iifname "docker0" counter accept comment "ICC"
		counter drop comment "UNPUBLISHED PORT DROP"
	}
	chain filter-forward-out__docker0 {
		ct state established,related counter accept
		counter accept comment "OUTGOING"
	}
}
`)
}

// checkDocker goes every way between nodes, and tries one that Docker closes.
func checkDocker(t *testing.T, n *node) {
	t.Helper()
	none := netip.Addr{}
	for _, a := range []addrs{v4, v6} {
		wantSource(t, "remote to container", n.remote, a.remote, n.container, a.container, a.remote)
		wantSource(t, "another host to container", n.remote, a.remoteTunnel, n.container, a.container, a.remoteTunnel)
		wantSource(t, "container to remote", n.container, none, n.remote, a.remote, a.container)
		wantSource(t, "container to outside", n.container, none, n.outside, a.outside, a.hostOutside)
		wantDropped(t, "outside to container", n.outside, n.container, a.container)
	}
}

// Docker 28 drops what is routed to containers. What comes from other nodes is
// accepted, and no more than that.
func TestForwardBesideDocker28(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		docker28(t, n, mode)
		wantDropped(t, "without weft, remote to container", n.remote, n.container, v4.container)
		wantDropped(t, "without weft, remote to container", n.remote, n.container, v6.container)
		fw := n.start(t, mode, full())
		checkDocker(t, n)
		if answers := strings.Join(fw.Status().Answers, "\n"); !strings.Contains(answers, "WEFT-RAW") || !strings.Contains(answers, "WEFT-OVERLAY") {
			t.Errorf("status answers are %q, want WEFT-RAW and WEFT-OVERLAY", answers)
		}
		must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
		wantDropped(t, "after Cleanup, remote to container", n.remote, n.container, v4.container)
	})
}

// The first container of Docker 28 may start long after weftd. With nf_tables
// underneath that is seen at once, else by the timer.
func TestDocker28StartsLater(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		fw := n.start(t, mode, full())
		n.run(t, fw, 50*time.Millisecond)
		docker28(t, n, mode)
		n.eventuallyReached(t)
		checkDocker(t, n)
		// Another container: its drop goes behind weft's chain.
		n.sh(t, mode.command(v4)+" -t raw -A PREROUTING -d 10.5.34.3 ! -i docker0 -j DROP")
		if first := firstRule(n.sh(t, mode.command(v4)+" -t raw -S PREROUTING")); !strings.HasSuffix(first, "-j WEFT-RAW") {
			t.Errorf("first rule of raw PREROUTING is %q, want the jump to WEFT-RAW", first)
		}
	})
}

// Before its first container starts, Docker 28 has its filter rules and no raw
// table.
func TestDocker28WithoutContainer(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		for _, a := range []addrs{v4, v6} {
			for _, line := range []string{"-N DOCKER-USER", "-N DOCKER-FORWARD", "-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD"} {
				n.sh(t, mode.command(a)+" "+line)
			}
		}
		fw := n.start(t, mode, full())
		wantSource(t, "remote to container", n.remote, v4.remote, n.container, v4.container, v4.remote)
		if answers := strings.Join(fw.Status().Answers, "\n"); !strings.Contains(answers, "WEFT-OVERLAY") {
			t.Errorf("status answers are %q, want WEFT-OVERLAY", answers)
		}
	})
}

// What an administrator drops in the raw table is not for weft to overrule.
func TestRawDropOfAdministrator(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		n.sh(t, mode.command(v4)+" -t raw -A PREROUTING -i flannel0 -s 10.5.2.2 -j DROP")
		fw := n.start(t, mode, full())
		wantDropped(t, "remote to container", n.remote, n.container, v4.container)
		if a := fw.Status().Answers; len(a) > 0 {
			t.Errorf("status answers are %q, want none", a)
		}
	})
}

// What Docker drops may be in another firewall than weft's rules.
func TestDocker28InOtherFlavour(t *testing.T) {
	t.Parallel()
	requireLegacy(t)
	for _, c := range []struct{ docker, weft Mode }{
		{ModeIPTablesLegacy, ModeIPTablesNFT},
		{ModeIPTablesNFT, ModeIPTablesLegacy},
		{ModeIPTablesLegacy, ModeNFTables},
	} {
		t.Run(string(c.docker)+" beside "+string(c.weft), func(t *testing.T) {
			n := newNode(t)
			docker28(t, n, c.docker)
			n.start(t, c.weft, full())
			checkDocker(t, n)
		})
	}
}

func TestForwardBesideDocker29(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		docker29(t, n)
		wantDropped(t, "without weft, remote to container", n.remote, n.container, v4.container)
		fw := n.start(t, mode, full())
		checkDocker(t, n)
		s := fw.Status()
		if answers := strings.Join(s.Answers, "\n"); !strings.Contains(answers, "raw-PREROUTING") || !strings.Contains(answers, "filter-FORWARD") {
			t.Errorf("status answers are %q, want raw-PREROUTING and filter-FORWARD", answers)
		}
		if len(s.Notes) > 0 {
			t.Errorf("status notes are %q, want none", s.Notes)
		}
		must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
		wantDropped(t, "after Cleanup, remote to container", n.remote, n.container, v4.container)
		if left := grep(strings.ToLower(n.saved(t)), "weft"); left != "" {
			t.Errorf("left after Cleanup:\n%s", left)
		}
	})
}

// Docker 29 writes a chain anew for each container, and all of them when it
// starts; weft's rules come back by event.
func TestDocker29RewritesItsChains(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	fw := n.start(t, ModeNFTables, full())
	n.run(t, fw, time.Hour)
	docker29(t, n)
	n.eventuallyReached(t)
	for _, rewrite := range []string{
		`flush chain ip docker-bridges raw-PREROUTING
		 add rule ip docker-bridges raw-PREROUTING ip daddr 10.5.34.2 iifname != { "docker0" } counter drop
		 add rule ip docker-bridges raw-PREROUTING ip daddr 10.5.34.3 iifname != { "docker0" } counter drop`,
		`flush table ip docker-bridges` + docker29Table(v4),
		`delete table ip docker-bridges` + docker29Table(v4),
	} {
		n.sh(t, "nft -f - <<'EOF'\n"+rewrite+"\nEOF")
		n.eventuallyReached(t)
	}
	checkDocker(t, n)
	n.sh(t, "nft delete table ip docker-bridges; nft delete table ip6 docker-bridges") // weft's rules do not stand in Docker's way
	eventually(t, "no rules left in Docker's tables", func() bool { return len(fw.Status().Answers) == 0 })
}

// eventuallyReached waits until the remote reaches the container.
func (n *node) eventuallyReached(t *testing.T) {
	t.Helper()
	eventually(t, "remote reaches container", func() bool {
		_, err := sourceSeenWithin(n.remote, v4.remote, n.container, v4.container, 100*time.Millisecond)
		return err == nil
	})
}

// Where the underlay carries containers' packets as they are, the neighbour is
// the other node.
func TestDirectPacketsBesideDocker28(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		peer := netip.MustParseAddr("10.5.7.2")
		must(t, n.outside.AddAddr("eth0", netip.PrefixFrom(peer, 32)))
		must(t, n.host.AddRoute(netip.MustParsePrefix("10.5.7.0/24"), v4.outside))
		docker28(t, n, mode)
		cfg := full()
		cfg.Devices = nil
		fw := n.start(t, mode, cfg)
		if _, err := sourceSeenWithin(n.outside, peer, n.container, v4.container, 200*time.Millisecond); err == nil {
			t.Error("without weft's rules for the underlay, the peer's packet is received")
		}
		cfg.Direct = []string{"eth0"}
		n.apply(t, fw, cfg)
		wantSource(t, "peer to container", n.outside, peer, n.container, v4.container, peer)
		wantSource(t, "container to peer", n.container, netip.Addr{}, n.outside, peer, v4.container)
		// A stranger there who takes the address of a container of this node.
		local := netip.MustParseAddr("10.5.34.77")
		must(t, n.outside.AddAddr("eth0", netip.PrefixFrom(local, 32)))
		if _, err := sourceSeenWithin(n.outside, local, n.container, v4.container, 200*time.Millisecond); err == nil {
			t.Error("a packet from outside with a source of this node's own subnet is received")
		}
		wantDropped(t, "outside to container", n.outside, n.container, v4.container)
	})
}

package firewall

import (
	"net/netip"
	"strings"
	"testing"
)

// others lays out rules of other programs in every table that weft touches.
func others(t *testing.T, n *node, mode Mode) {
	dockerForward(t, n, mode)
	for _, a := range []addrs{v4, v6} {
		n.sh(t, mode.command(a)+" -t nat -A POSTROUTING -s "+a.subnet.String()+" ! -o docker0 -j MASQUERADE")
		n.sh(t, mode.command(a)+" -t mangle -A FORWARD -j MARK --set-mark 7")
		n.sh(t, mode.command(a)+" -N MINE; "+mode.command(a)+" -A INPUT -m comment --comment 'weft is not in here' -j MINE")
	}
	n.sh(t, "nft add table inet mine")
}

func TestCleanupLeavesTheRest(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		others(t, n, mode)
		before := n.saved(t)
		n.start(t, mode, full())
		if n.saved(t) == before {
			t.Fatal("Apply changed nothing")
		}
		for range 2 {
			must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
			if after := n.saved(t); after != before {
				t.Fatalf("before weft:\n%s\nafter Cleanup:\n%s", before, after)
			}
		}
	})
}

func TestCleanupOfNothing(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		before := n.saved(t)
		must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
		if after := n.saved(t); after != before {
			t.Errorf("before:\n%s\nafter Cleanup:\n%s", before, after)
		}
	})
}

// A daemon that starts in another mode removes what it made in the last one.
func TestSwitchOfMode(t *testing.T) {
	requireLegacy(t)
	all := []Mode{ModeIPTablesNFT, ModeIPTablesLegacy, ModeNFTables}
	for _, from := range all {
		for _, to := range all {
			if from == to {
				continue
			}
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				fresh := newNode(t)
				for _, m := range all { // the same tables, though empty
					fresh.start(t, m, Config{})
				}
				fresh.sh(t, allTables)
				fresh.start(t, to, full())

				n := newNode(t)
				n.sh(t, allTables)
				n.start(t, from, full())
				n.start(t, to, full())
				if got, want := n.saved(t), fresh.saved(t); got != want {
					t.Errorf("after the switch\n%s\nwant\n%s", got, want)
				}
				checkSources(t, n, v4)
			})
		}
	}
}

// allTables makes iptables set up, empty, every table that weft may use, so
// that two hosts can be compared as they are.
var allTables = strings.Join([]string{
	table("iptables-nft"), table("ip6tables-nft"), table("iptables-legacy"), table("ip6tables-legacy"),
}, ";")

func table(cmd string) string {
	var lines []string
	for _, tbl := range []string{"nat", "mangle", "filter"} {
		lines = append(lines, cmd+" -t "+tbl+" -N TMP", cmd+" -t "+tbl+" -X TMP", cmd+" -t "+tbl+" -P OUTPUT ACCEPT")
	}
	return strings.Join(append(lines,
		cmd+" -t nat -I POSTROUTING -j ACCEPT", cmd+" -t nat -F POSTROUTING",
		cmd+" -t mangle -I FORWARD -j ACCEPT", cmd+" -t mangle -F FORWARD",
		cmd+" -I FORWARD -j ACCEPT", cmd+" -F FORWARD"), ";")
}

// Flanneld's rules, as it leaves them when it is stopped, would masquerade what
// weft leaves alone, the more so if the subnet has changed since.
func TestFlannelsRulesGo(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		n.sh(t, allTables)
		others(t, n, mode)
		clean := n.saved(t)
		for _, a := range []addrs{v4, v6} {
			ipt, net, old := mode.command(a), a.network.String(), netip.PrefixFrom(a.remote, a.subnet.Bits()).Masked().String()
			for _, line := range []string{
				"-t nat -N FLANNEL-POSTRTG",
				"-t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG",
				"-t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment 'flanneld masq' -j RETURN",
				"-t nat -A FLANNEL-POSTRTG ! -s " + net + " -d " + old + " -m comment --comment 'flanneld masq' -j RETURN",
				"-t nat -A FLANNEL-POSTRTG ! -s " + net + " -d " + net + " -m comment --comment 'flanneld masq' -j MASQUERADE --random-fully",
				"-t nat -A POSTROUTING ! -s " + net + " -d " + net + " -m comment --comment 'flanneld masq' -j MASQUERADE",
				"-N FLANNEL-FWD",
				"-A FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD",
				"-A FLANNEL-FWD -s " + net + " -m comment --comment 'flanneld forward' -j ACCEPT",
				"-A FORWARD -d " + net + " -m comment --comment 'flanneld forward' -j ACCEPT",
			} {
				n.sh(t, ipt+" "+line)
			}
		}
		n.sh(t, "nft add table ip flannel-ipv4; nft add table ip6 flannel-ipv6")
		n.start(t, mode, full())
		if got := n.saved(t); strings.Contains(strings.ToLower(got), "flannel-") || strings.Contains(got, "flanneld") {
			t.Errorf("flannel's rules are still there:\n%s", got)
		}
		checkSources(t, n, v4)
		must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
		if got := n.saved(t); got != clean {
			t.Errorf("before flannel and weft:\n%s\nafter both:\n%s", clean, got)
		}
	})
}

// Cleanup is for weft's rules; flannel's may be in use.
func TestCleanupSparesFlannel(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		n.sh(t, mode.command(v4)+" -t nat -N FLANNEL-POSTRTG")
		n.sh(t, "nft add table ip flannel-ipv4")
		before := n.saved(t)
		must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
		if after := n.saved(t); after != before {
			t.Errorf("before:\n%s\nafter Cleanup:\n%s", before, after)
		}
	})
}

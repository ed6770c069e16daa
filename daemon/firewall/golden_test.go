package firewall

import (
	"regexp"
	"strings"
	"testing"

	"github.com/coreos/go-iptables/iptables"
)

const goldenIPTables4 = `
nat
-P POSTROUTING ACCEPT
-A POSTROUTING -m comment --comment weft -j WEFT-POSTROUTING
-N WEFT-POSTROUTING
-A WEFT-POSTROUTING -s 10.5.34.0/24 -d 10.5.34.0/24 -m comment --comment weft -j RETURN
-A WEFT-POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment weft -j ACCEPT
-A WEFT-POSTROUTING -d 10.5.34.0/24 -m comment --comment weft -j RETURN
-A WEFT-POSTROUTING -s 10.5.0.0/16 -d 224.0.0.0/4 -m comment --comment weft -j ACCEPT
-A WEFT-POSTROUTING -s 10.5.0.0/16 -m comment --comment weft -j MASQUERADE --random-fully
-A WEFT-POSTROUTING -d 10.5.0.0/16 -m comment --comment weft -j SNAT --to-source 10.5.34.0 --random-fully
mangle
-P FORWARD ACCEPT
-A FORWARD -m comment --comment weft -j WEFT-MSS
-N WEFT-MSS
-A WEFT-MSS -o flannel0 -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment weft -j TCPMSS --clamp-mss-to-pmtu
-A WEFT-MSS -i flannel0 -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment weft -j TCPMSS --clamp-mss-to-pmtu
filter
-N DOCKER-USER
-A DOCKER-USER -m comment --comment weft -j WEFT-OVERLAY
-P FORWARD ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -m comment --comment weft -j WEFT-FORWARD
-N WEFT-FORWARD
-A WEFT-FORWARD -s 10.5.0.0/16 -m comment --comment weft -j ACCEPT
-A WEFT-FORWARD -d 10.5.0.0/16 -m comment --comment weft -j ACCEPT
-N WEFT-OVERLAY
-A WEFT-OVERLAY -s 10.5.0.0/16 -d 10.5.0.0/16 -o flannel0 -m comment --comment weft -j ACCEPT
-A WEFT-OVERLAY -s 10.5.0.0/16 -d 10.5.0.0/16 -i flannel0 -m comment --comment weft -j ACCEPT
`

const goldenNFTables = `
table inet weft {
	chain postrouting {
		type nat hook postrouting priority srcnat - 5; policy accept;
		ip saddr 10.5.34.0/24 ip daddr 10.5.34.0/24 counter return comment "weft"
		ip saddr 10.5.0.0/16 ip daddr 10.5.0.0/16 counter snat ip to ip saddr comment "weft"
		ip daddr 10.5.34.0/24 counter return comment "weft"
		ip saddr 10.5.0.0/16 ip daddr 224.0.0.0/4 counter snat ip to ip saddr comment "weft"
		ip saddr 10.5.0.0/16 counter masquerade fully-random comment "weft"
		ip daddr 10.5.0.0/16 counter snat ip to 10.5.34.0 fully-random comment "weft"
		ip6 saddr fd00:5:0:22::/64 ip6 daddr fd00:5:0:22::/64 counter return comment "weft"
		ip6 saddr fd00:5::/48 ip6 daddr fd00:5::/48 counter snat ip6 to ip6 saddr comment "weft"
		ip6 daddr fd00:5:0:22::/64 counter return comment "weft"
		ip6 saddr fd00:5::/48 ip6 daddr ff00::/8 counter snat ip6 to ip6 saddr comment "weft"
		ip6 saddr fd00:5::/48 counter masquerade fully-random comment "weft"
		ip6 daddr fd00:5::/48 counter snat ip6 to fd00:5:0:22:: fully-random comment "weft"
	}

	chain mss {
		type filter hook forward priority mangle; policy accept;
		meta nfproto ipv4 oifname "flannel0" tcp flags syn / syn,rst counter tcp option maxseg size set rt mtu comment "weft"
		meta nfproto ipv4 iifname "flannel0" tcp flags syn / syn,rst counter tcp option maxseg size set rt mtu comment "weft"
		meta nfproto ipv6 oifname "flannel0" tcp flags syn / syn,rst counter tcp option maxseg size set rt mtu comment "weft"
		meta nfproto ipv6 iifname "flannel0" tcp flags syn / syn,rst counter tcp option maxseg size set rt mtu comment "weft"
	}
}
`

// iptablesText lists the chains that weft and its jumps are in.
func iptablesText(t *testing.T, n *node, command string, proto iptables.Protocol, tables ...string) string {
	t.Helper()
	var out strings.Builder
	must(t, n.host.Do(func() error {
		ipt, err := iptables.New(iptables.Path(command), iptables.IPFamily(proto))
		if err != nil {
			return err
		}
		chains := map[string][]string{
			"nat":    {"POSTROUTING", "WEFT-POSTROUTING"},
			"mangle": {"FORWARD", "WEFT-MSS"},
			"filter": {"DOCKER-USER", "FORWARD", "WEFT-FORWARD", "WEFT-OVERLAY"},
		}
		for _, table := range tables {
			out.WriteString("\n" + table)
			for _, chain := range chains[table] {
				rules, err := ipt.List(table, chain)
				if err != nil {
					return err
				}
				out.WriteString("\n" + strings.Join(rules, "\n"))
			}
		}
		return nil
	}))
	return out.String() + "\n"
}

func TestRuleText(t *testing.T) {
	to6 := strings.NewReplacer("10.5.34.0/24", "fd00:5:0:22::/64", "10.5.0.0/16", "fd00:5::/48", "10.5.34.0", "fd00:5:0:22::", "224.0.0.0/4", "ff00::/8")
	docker := func(t *testing.T, n *node, mode Mode) {
		for _, a := range []addrs{v4, v6} {
			n.sh(t, mode.command(a)+" -N DOCKER-USER; "+mode.command(a)+" -A FORWARD -j DOCKER-USER")
		}
	}
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		docker(t, n, mode)
		n.start(t, mode, full())
		tables, filterOnly := []string{"nat", "mangle", "filter"}, goldenIPTables4
		if mode == ModeNFTables {
			counters := regexp.MustCompile(`counter packets \d+ bytes \d+`)
			got := counters.ReplaceAllString(n.sh(t, "nft list table inet weft"), "counter")
			if want := strings.TrimPrefix(goldenNFTables, "\n"); got != want {
				t.Errorf("nft list table inet weft:\n%s\nwant\n%s", got, want)
			}
			// What weft wrote into iptables-nft's tables reads like the rest.
			tables = []string{"filter"}
			filterOnly = filterOnly[strings.Index(filterOnly, "\nfilter"):]
		}
		if got, want := iptablesText(t, n, mode.command(v4), iptables.ProtocolIPv4, tables...), filterOnly; got != want {
			t.Errorf("IPv4 rules:\n%s\nwant\n%s", got, want)
		}
		if got, want := iptablesText(t, n, mode.command(v6), iptables.ProtocolIPv6, tables...), to6.Replace(filterOnly); got != want {
			t.Errorf("IPv6 rules:\n%s\nwant\n%s", got, want)
		}
	})
}

func TestRuleTextWithoutRandomPorts(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		cfg := full()
		cfg.RandomFully = false
		n.start(t, mode, cfg)
		text := grep(n.saved(t), "weft")
		if strings.Contains(text, "random") || !strings.Contains(strings.ToLower(text), "masquerade") {
			t.Errorf("rules are\n%s", text)
		}
	})
}

// iptables-nft must be able to write back what it reads in tables that weft
// added to by netlink.
func TestGuestRulesSurviveIPTablesRestore(t *testing.T) {
	n := newNode(t)
	dropForward(t, n, ModeNFTables)
	n.start(t, ModeNFTables, full())
	for _, a := range []addrs{v4, v6} {
		ipt := ModeNFTables.command(a)
		n.sh(t, ipt+"-save | "+ipt+"-restore")
	}
	checkForwarding(t, n)
	must(t, n.host.Do(func() error { return Cleanup(quietLog()) }))
	if got := grep(strings.ToLower(n.saved(t)), "weft"); got != "" {
		t.Errorf("left after Cleanup:\n%s", got)
	}
}

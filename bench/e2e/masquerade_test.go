package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

func TestMasquerade(t *testing.T) {
	outside := netip.MustParseAddr("192.0.2.254") // has no route to the network
	for _, kind := range []string{"nftables", "iptables"} {
		t.Run(kind, func(t *testing.T) {
			c := start(t, spec{flags: []string{"--ip-masq", "--firewall=" + kind}})
			c.reachAll()
			a, b := c.hosts[0].Container, c.hosts[1].Container
			c.reach(a.Namespace, outside)
			if from := c.sourceSeen(a.Namespace, c.Switch, outside); from != c.hosts[0].IPv4 {
				t.Errorf("outside, the container is %s, want its host %s", from, c.hosts[0].IPv4)
			}
			// Within the network, containers see each other's addresses.
			if from := c.sourceSeen(a.Namespace, b.Namespace, b.IPv4); from != a.IPv4 {
				t.Errorf("inside, the container is %s, want %s", from, a.IPv4)
			}
			// A host reaches remote containers, and so they reach it.
			c.reach(c.hosts[0].Namespace, b.IPv4)
			c.reach(b.Namespace, netip.PrefixFrom(a.IPv4, 24).Masked().Addr().Next())

			// Rules that someone removes are put back.
			c.flushRules(0, kind)
			c.reach(a.Namespace, outside)
		})
	}
}

// Docker sets the policy for forwarded packets to DROP.
func TestForwardPolicyDrop(t *testing.T) {
	c := build(t, spec{})
	for _, h := range c.hosts {
		if out, err := h.Output("iptables", "-P", "FORWARD", "DROP"); err != nil {
			t.Fatal(err, out)
		}
	}
	for i := range c.hosts {
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
}

// sourceSeen sends datagrams until one arrives, and returns the source address that it
// has then.
func (c *cluster) sourceSeen(from, at *lab.Namespace, to netip.Addr) netip.Addr {
	c.t.Helper()
	conn, err := at.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", netip.AddrPortFrom(to, 0).String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	client, err := from.Dial(c.t.Context(), net.Dialer{}, "udp4", conn.LocalAddr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	var seen netip.Addr
	c.eventually(func() string {
		if _, err := client.Write([]byte("weft")); err != nil {
			return err.Error()
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		_, source, err := conn.ReadFrom(make([]byte, 16))
		if err != nil {
			return fmt.Sprintf("no datagram from %s at %s: %v", from.Name, to, err)
		}
		seen = source.(*net.UDPAddr).AddrPort().Addr()
		return ""
	})
	return seen
}

// flushRules removes every firewall rule of a host, and makes sure that there
// were some.
func (c *cluster) flushRules(i int, kind string) {
	c.t.Helper()
	commands := [][]string{{"nft", "list", "ruleset"}, {"nft", "flush", "ruleset"}}
	if kind == "iptables" {
		commands = [][]string{{"iptables-save"}, {"iptables", "-t", "nat", "-F"}, {"iptables", "-F"}}
	}
	for n, command := range commands {
		out, err := c.hosts[i].Output(command[0], command[1:]...)
		if err != nil {
			c.t.Fatal(err)
		}
		if n == 0 && !strings.Contains(out, "10.5.0.0/16") {
			c.t.Errorf("no rule about the network in:\n%s", out)
		}
	}
}

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// gsoDevice is the device by which the kernel takes in superpackets.
const gsoDevice = "weft-gso"

// Where the underlay hands superpackets over whole, as a veth does, the kernels
// carry those of TCP, too: between hosts that let in as little as they may, drop
// what they would forward, and masquerade. IPv6 and UDP's are weftd's.
func TestSuperpackets(t *testing.T) {
	t.Parallel()
	s := onUDP.spec(2, true)
	s.flags = []string{"--ip-masq"}
	c := build(t, s)
	for i := range c.hosts {
		c.closeHost(i)
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	for i := range c.hosts {
		if !c.capabilities(i)["assist_gso"] {
			t.Errorf("host%d: %+v", i+1, c.status(i).Backend.Capabilities)
		}
		c.wantAttached(i, assistPrograms...)
		c.superpackets(i, 1-i, true)
	}

	t.Run("bulk", func(t *testing.T) {
		for i := range c.hosts {
			c.carriesSuperpackets(i, 1-i, bulkPackets/100)
		}
	})
	t.Run("everything", func(t *testing.T) {
		c.exchange(c.hosts[0], c.hosts[1])
		c.exchange(c.hosts[1], c.hosts[0])
		c.fits(c.hosts[0], c.hosts[1], onUDP.mtu)
	})
	t.Run("turns", c.superpacketsInOrder)
	t.Run("a host's own", c.hostsSuperpackets)
	t.Run("congestion on the way", c.superpacketsMarked)
	t.Run("stopped daemons", func(t *testing.T) {
		for i := range c.hosts {
			defer c.pause(i)()
		}
		a, b := c.hosts[0].Container, c.hosts[1].Container
		if _, err := traffic.SendChecked(t.Context(), a.Namespace, b.Namespace, b.IPv4, 64<<20, "", nil); err != nil {
			t.Error(err)
		}
	})
	for i := range c.hosts {
		if n := c.snmp(c.hosts[i].Container.Namespace, "Tcp", "InCsumErrors"); n > 0 {
			t.Errorf("container%d: %d wrong TCP checksums", i+1, n)
		}
		if drops := c.status(i).Backend.Drops; drops["tx_assist_failed"] > 0 {
			t.Errorf("host%d dropped %v", i+1, drops)
		}
	}
}

// closeHost has a host let in answers, what comes by lo, and its peers' tunnels;
// drop packets that would not go back the way they came; and forward nothing, as
// Docker has it.
func (c *cluster) closeHost(i int) {
	c.t.Helper()
	h := c.hosts[i]
	for _, device := range []string{"all", "default"} {
		if err := h.Sysctl("net/ipv4/conf/"+device+"/rp_filter", "1"); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, rule := range [][]string{
		{"-t", "raw", "-A", "PREROUTING", "-m", "rpfilter", "--invert", "-j", "DROP"},
		{"-A", "INPUT", "-i", "lo", "-j", "ACCEPT"},
		{"-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"},
		{"-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"},
		{"-A", "INPUT", "-i", "eth0", "-p", "udp", "--dport", fmt.Sprint(tunnelPort), "-j", "ACCEPT"},
		{"-A", "INPUT", "-i", "flannel0", "-j", "ACCEPT"},
		{"-P", "INPUT", "DROP"},
		{"-P", "FORWARD", "DROP"},
	} {
		if out, err := h.Output("iptables", rule...); err != nil {
			c.t.Fatal(err, out)
		}
	}
}

// superpackets waits until a host's kernel carries superpackets to another host,
// or does not.
func (c *cluster) superpackets(from, to int, on bool) {
	c.t.Helper()
	c.eventually(func() string {
		if c.superpacketsTo(from, to) != on {
			return fmt.Sprintf("host%d's kernel carries superpackets to host%d: %v", from+1, to+1, !on)
		}
		return ""
	})
}

func (c *cluster) superpacketsTo(from, to int) bool {
	c.t.Helper()
	for _, p := range c.status(from).Backend.Peers {
		if addr, err := netip.ParseAddrPort(p.Endpoint); err == nil && addr.Addr() == c.hosts[to].IPv4 {
			return p.Superpackets
		}
	}
	return false
}

// A bulk transfer is of so many packets that a few others beside it do not count.
const (
	bulkBytes   = 64 << 20
	bulkPackets = bulkBytes / 1500 // at least
)

// whatever is no bound on what carriesSuperpackets finds in user space.
const whatever = 1 << 30

// carriesSuperpackets sends between containers by the kernels, as counters on both
// sides tell, and so many packets, beside that, by user space at most. One transfer of
// some must be so: where a busy machine does not let weftd answer two trials in time,
// the flow is user space's from then on.
func (c *cluster) carriesSuperpackets(from, to int, user uint64) {
	c.t.Helper()
	a, b := c.hosts[from].Container, c.hosts[to].Container
	labtest.OneOfSome(c.t, func() string {
		c.superpackets(from, to, true)
		sent, received, whole := c.sent(from), c.received(to), c.status(from).Backend.ByKernel.TxSuperpackets
		if _, err := traffic.SendChecked(c.t.Context(), a.Namespace, b.Namespace, b.IPv4, bulkBytes, "", nil); err != nil {
			c.t.Error(err)
		}
		sent, received, whole = c.sent(from).since(sent), c.received(to).since(received), c.status(from).Backend.ByKernel.TxSuperpackets-whole
		// A superpacket is counted as the packets that it is.
		if sent.kernel < bulkPackets || received.kernel < bulkPackets || sent.user > user || whole < bulkBytes>>16 || whole > bulkPackets/2 {
			return fmt.Sprintf("of %d bytes from host%d to host%d: sent %+v, of them in %d superpackets; received %+v", bulkBytes, from+1, to+1, sent, whole, received)
		}
		return ""
	})
}

// superpacketsInOrder has connections change between superpackets and single
// packets, which leave the receiving kernel by different ways: in order, in one run of
// some (see keepsOrder).
func (c *cluster) superpacketsInOrder(t *testing.T) {
	a, b := c.hosts[0].Container, c.hosts[1].Container
	pauses := turnPauses()
	labtest.OneOfSome(t, func() string {
		before := c.sent(0)
		r, err := traffic.TakeTurnsTCP(t.Context(), a.Namespace, b.Namespace, b.IPv4, pauses)
		n := c.sent(0).since(before)
		if err != nil || n.kernel == 0 {
			t.Errorf("%v; carried by %+v", err, n)
		}
		t.Logf("%+v", r)
		if r.Reordered > 0 || r.Retransmitted == 0 && (r.OutOfOrder > 0 || r.Duplicate > 0) || n.user > n.kernel/100 {
			return fmt.Sprintf("%+v, carried by %+v", r, n)
		}
		return ""
	})
}

// hostsSuperpackets: a host's own connections, which begin and end at the tunnel's
// addresses, are carried like containers'.
func (c *cluster) hostsSuperpackets(t *testing.T) {
	a, b := c.hosts[0], c.hosts[1]
	tunnel := tunnelAddr(b)
	for _, way := range []struct {
		name     string
		from, to *lab.Namespace
		addr     netip.Addr
	}{
		{"host to container", a.Namespace, b.Container.Namespace, b.Container.IPv4},
		{"container to host", a.Container.Namespace, b.Namespace, tunnel},
		{"host to host", a.Namespace, b.Namespace, tunnel},
	} {
		before := c.status(0).Backend.ByKernel.TxSuperpackets
		if _, err := traffic.SendChecked(t.Context(), way.from, way.to, way.addr, 16<<20, "", nil); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
		if n := c.status(0).Backend.ByKernel.TxSuperpackets - before; n < 16<<20>>16 {
			t.Errorf("%s: %d superpackets by the kernel", way.name, n)
		}
	}
}

// superpacketsMarked: what a router marks for congestion reaches TCP marked.
func (c *cluster) superpacketsMarked(t *testing.T) {
	a, b := c.hosts[0].Container, c.hosts[1].Container
	for _, ns := range []*lab.Namespace{a.Namespace, b.Namespace} {
		if err := ns.Sysctl("net/ipv4/tcp_ecn", "1"); err != nil {
			t.Fatal(err)
		}
		defer ns.Sysctl("net/ipv4/tcp_ecn", "2") // the kernel's default
	}
	script := `add table netdev lab
		add chain netdev lab marks { type filter hook ingress device "port1" priority 0; }
		add rule netdev lab marks ip ecn ect0 numgen random mod 50 == 0 ip ecn set ce`
	if out, err := c.Switch.Output("nft", script); err != nil {
		t.Fatal(err, out)
	}
	defer c.Switch.Output("nft", "delete", "table", "netdev", "lab")
	before, marked := c.sent(0), c.snmp(b.Namespace, "IpExt", "InCEPkts")
	if _, err := traffic.SendChecked(t.Context(), a.Namespace, b.Namespace, b.IPv4, bulkBytes, "", nil); err != nil {
		t.Error(err)
	}
	sent := c.sent(0).since(before)
	if marked = c.snmp(b.Namespace, "IpExt", "InCEPkts") - marked; marked == 0 || sent.kernel < bulkPackets {
		t.Errorf("%d marked packets arrived; sent %+v", marked, sent)
	}
	if n := c.status(1).Backend.Drops["rx_congestion_not_ect"]; n > 0 {
		t.Errorf("%d were dropped", n)
	}
}

// The receiving host forwards superpackets to a device that takes none: the
// kernel cuts them into what the sender would have sent, for nothing is left in
// them of the tunnel.
func TestSuperpacketsAreCutBehindTheTunnel(t *testing.T) {
	t.Parallel()
	c := start(t, spec{})
	c.reachAll()
	c.superpackets(0, 1, true)
	a, b := c.hosts[0].Container, c.hosts[1].Container
	if err := c.hosts[1].SetFeatures("veth0", noOffload); err != nil {
		t.Fatal(err)
	}
	heard := listenOn(t, b.Namespace, "eth0")
	before := c.sent(0)
	const size = 8 << 20
	if _, err := traffic.SendChecked(t.Context(), a.Namespace, b.Namespace, b.IPv4, size, "", nil); err != nil {
		t.Error(err)
	}
	if n := c.sent(0).since(before); n.kernel < size/1500 {
		t.Errorf("sent %+v", n)
	}
	count := 0
	for _, packet := range heard.packets() {
		if packet[0]>>4 != 4 {
			continue
		}
		p, err := dissect(packet)
		if err == nil && (p.src != a.IPv4 || p.ttl != 62 || len(packet) > onUDP.mtu) {
			err = fmt.Errorf("%d bytes from %v, TTL %d", len(packet), p.src, p.ttl)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.payload) > 1000 {
			count++
		}
	}
	if count < size/1500 {
		t.Errorf("%d packets", count)
	}
}

// noOffload has the kernel cut and sum whatever leaves by a device.
var noOffload = map[string]bool{
	"tx-checksum-ip-generic": false, "tx-scatter-gather": false, "tx-generic-segmentation": false,
	"tx-tcp-segmentation": false, "tx-udp-segmentation": false, "tx-gso-list": false,
}

// hasDevice tells whether a host has a device of a name.
func (c *cluster) hasDevice(i int, name string) (there bool) {
	c.t.Helper()
	if err := c.hosts[i].Do(func() error {
		_, err := netlink.LinkByName(name)
		there = err == nil
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			err = nil
		}
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return there
}

// superPortion is a portion of a steady stream that travels as a superpacket or
// two, 160 Mbit/s.
const superPortion = 20_000

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// Containers that CNI attaches, dual stack and through the whole chain of
// plugins, reach each other across hosts and by a published port, and leave
// nothing when they are detached.
func TestCNI(t *testing.T) {
	c := build(t, spec{config: dualStack, ipv4: lab.UnderlayIPv4, flags: []string{"--ip-masq"}})
	var hosts []*cniHost
	for i, h := range c.hosts {
		host := newCNIHost(t, h.Namespace)
		host.sample("10-weft-chained.conflist", c.startWeftd(i).SubnetFile)
		hosts = append(hosts, host)
	}
	for i, h := range hosts {
		env := c.waitReady(i)
		h.pod = c.pod()
		if _, err := h.tool("status"); err != nil {
			t.Error(err)
		}
		chosen := env.Subnet.Addr().As4()
		chosen[3] = 77
		h.capabilities = fmt.Sprintf(`{%s, "ips": [%q], "mac": "02:57:65:66:74:01"}`, bandwidth(t), netip.AddrFrom4(chosen))
		if i == 1 {
			h.capabilities = `{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`
		}
		h.add()
		if r := h.result; r.CNIVersion != "1.1.0" || !env.Subnet.Masked().Contains(r.ipv4()) || !env.IPv6Subnet.Masked().Contains(r.ipv6()) {
			t.Fatalf("the result is %+v, the subnet %+v", r, env)
		}
	}

	a, b := hosts[0], hosts[1]
	if got := a.result.ipv4().As4()[3]; got != 77 {
		t.Errorf("the container that chose its address has %s", a.result.ipv4())
	}
	for _, i := range interfaces(t, a.pod) {
		if i.Name == "eth0" && i.HardwareAddr.String() != "02:57:65:66:74:01" {
			t.Errorf("the container that chose its MAC has %s", i.HardwareAddr)
		}
	}
	// Of the chained plugins, CHECK does not find out whether this one works.
	if got, want := tokenBuckets(t, a.ns), strings.Count(a.capabilities, "Rate"); got != want {
		t.Errorf("%d queues limit the container of host1, want %d", got, want)
	}
	const mtu = 1500 - 28
	for _, h := range hosts {
		if got := deviceMTU(t, h.pod, "eth0"); got != mtu {
			t.Errorf("eth0 of %s has the MTU %d, want %d", h.pod.Name, got, mtu)
		}
	}
	for _, to := range []struct {
		addr    netip.Addr
		headers int // of IP and ICMP
	}{{b.result.ipv4(), 20 + 8}, {b.result.ipv6(), 40 + 8}} {
		c.reach(a.pod, to.addr)
		pings(t, "packets of the whole MTU", a.pod, to.addr, traffic.PingOptions{Count: 3, Size: mtu - to.headers, DontFragment: true})
		if _, err := traffic.SendChecked(t.Context(), a.pod, b.pod, to.addr, 8<<20, "", nil); err != nil {
			t.Error(err)
		}
	}

	// From the other host, its container, a machine outside, and by hairpin
	// from the container itself.
	published := netip.AddrPortFrom(c.hosts[1].IPv4, 8080)
	for _, from := range []*lab.Namespace{c.hosts[0].Namespace, a.pod, c.etcdHost.Namespace, b.pod} {
		answered(t, from, published, b.pod, 80)
	}

	for _, h := range hosts {
		if out, err := h.tool("check"); err != nil {
			t.Error(err, out)
		}
		for range 2 { // DEL is repeatable
			h.del()
		}
		h.wantNothingLeft()
	}
}

// pod is a container before it is attached.
func (c *cluster) pod() *lab.Namespace {
	c.t.Helper()
	return labtest.Namespace(c.t, "pod")
}

// bandwidth is the capability for the plugin of that name: towards the
// container, and from it too if this kernel has the ifb device for that.
func bandwidth(t *testing.T) string {
	t.Helper()
	const towards = `"ingressRate": 200000000, "ingressBurst": 20000000`
	err := labtest.Namespace(t, "ifb").Do(func() error {
		return netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "ifb0"}})
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Log("this kernel has no ifb: what containers send is not limited, only what they receive")
		return `"bandwidth": {` + towards + `}`
	}
	if err != nil {
		t.Fatal(err)
	}
	return `"bandwidth": {` + towards + `, "egressRate": 200000000, "egressBurst": 20000000}`
}

// tokenBuckets counts the queues of a namespace that limit as bandwidth says.
func tokenBuckets(t *testing.T, ns *lab.Namespace) (n int) {
	t.Helper()
	err := ns.Do(func() error {
		links, err := netlink.LinkList()
		for _, link := range links {
			queues, listErr := netlink.QdiscList(link)
			err = errors.Join(err, listErr)
			for _, q := range queues {
				if tbf, ok := q.(*netlink.Tbf); ok && tbf.Rate == 200_000_000/8 {
					n++
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// answered connects to an address, behind which a port of a namespace listens,
// and waits for the greeting.
func answered(t *testing.T, from *lab.Namespace, to netip.AddrPort, at *lab.Namespace, port uint16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	listener, err := at.Listen(ctx, net.ListenConfig{}, "tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := from.Dial(ctx, net.Dialer{}, "tcp", to.String())
	if err != nil {
		t.Errorf("from %s: %v", from.Name, err)
		return
	}
	defer client.Close()
	// The handshake is done: the connection waits in the queue, if it is the
	// one to this listener.
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	server, err := listener.Accept()
	if err != nil {
		t.Errorf("from %s: %v", from.Name, err)
		return
	}
	defer server.Close()
	if _, err := io.WriteString(server, "weft"); err != nil {
		t.Error(err)
	}
	client.SetDeadline(time.Now().Add(patience))
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(client, greeting); err != nil || string(greeting) != "weft" {
		t.Errorf("from %s: read %q, %v", from.Name, greeting, err)
	}
}

func deviceMTU(t *testing.T, ns *lab.Namespace, device string) int {
	t.Helper()
	for _, i := range interfaces(t, ns) {
		if i.Name == device {
			return i.MTU
		}
	}
	t.Errorf("%s has no %s", ns.Name, device)
	return 0
}

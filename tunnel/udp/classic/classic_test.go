package classic_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/udp/classic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var network = tunnel.Network{IPv4: netip.MustParsePrefix("10.5.0.0/16")}

// engine makes a backend of one kind.
type engine func(tunnel.Underlay, *slog.Logger) (tunnel.Backend, error)

func newClassic(u tunnel.Underlay, log *slog.Logger) (tunnel.Backend, error) {
	return classic.New(classic.Config{Underlay: u, Network: network, Log: log})
}

func newGSO(u tunnel.Underlay, log *slog.Logger) (tunnel.Backend, error) {
	return udp.New(udp.Config{Underlay: u, Network: network, Log: log})
}

// node is one engine in a namespace; its tunnel address serves as a container.
type node struct {
	*lab.Namespace
	tunnel.Backend
	lease subnet.Lease
	addr  netip.Addr
}

// newNodes joins two namespaces by a cable and starts an engine in each.
func newNodes(t *testing.T, first, second engine) (a, b *node) {
	t.Helper()
	one, two := labtest.Namespace(t, "one"), labtest.Namespace(t, "two")
	check(t, lab.Veth(lab.End{In: one, Device: "eth0"}, lab.End{In: two, Device: "eth0"}, 1500))
	a, b = start(t, one, 1, first), start(t, two, 2, second)
	a.SetPeers([]subnet.Lease{b.lease})
	b.SetPeers([]subnet.Lease{a.lease})
	return a, b
}

func start(t *testing.T, ns *lab.Namespace, number int, make engine) *node {
	t.Helper()
	// Otherwise the kernel speaks IPv6 on the TUN, which is counted.
	check(t, ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	outer := netip.AddrFrom4([4]byte{192, 0, 2, byte(number)})
	check(t, ns.AddAddr("eth0", netip.PrefixFrom(outer, 24)))
	n := &node{Namespace: ns, addr: netip.AddrFrom4([4]byte{10, 5, byte(number), 0})}
	log := new(strings.Builder)
	var err error
	n.Backend, err = make(tunnel.Underlay{Name: "eth0", MTU: 1500, IPv4: outer, PublicIPv4: outer}, slog.New(slog.NewTextHandler(log, nil)))
	check(t, err)
	n.lease.Subnet.IPv4 = netip.PrefixFrom(n.addr, 24)
	n.lease.Attrs.PublicIP = outer
	n.lease.Attrs.BackendType, n.lease.Attrs.BackendData, _ = n.Data()
	check(t, ns.Do(func() error { return n.Backend.Start(t.Context(), n.lease) }))
	t.Cleanup(func() {
		check(t, n.Close())
		if t.Failed() {
			t.Logf("node %d: %+v\n%s", number, n.Status(), log)
		}
	})
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTransfer(t *testing.T) {
	for name, second := range map[string]engine{"classic to classic": newClassic, "classic to gso": newGSO} {
		t.Run(name, func(t *testing.T) {
			a, b := newNodes(t, newClassic, second)
			for _, way := range [][2]*node{{a, b}, {b, a}} {
				from, to := way[0], way[1]
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				check(t, traffic.WaitReachable(ctx, from.Namespace, to.addr))
				_, err := traffic.SendChecked(ctx, from.Namespace, to.Namespace, to.addr, 8<<20, "", nil)
				check(t, err)
				// 4000 bytes travel in fragments.
				for _, size := range []int{64, 1444, 4000} {
					if err := labtest.Lossless(t, func() error {
						r, err := traffic.EchoUDP(ctx, from.Namespace, to.Namespace, to.addr, traffic.EchoOptions{Count: 100, Size: size})
						check(t, err)
						if r.Corrupt > 0 {
							t.Errorf("%d bytes: %+v", size, r)
						}
						if r.Returned < r.Sent {
							return fmt.Errorf("of %d datagrams of %d bytes %d came back", r.Sent, size, r.Returned)
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			}
			for _, n := range []*node{a, b} {
				check(t, n.Health())
				if p := n.Status().Peers[0]; p.TxBytes < 8<<20 || p.RxBytes < 8<<20 {
					t.Errorf("the counters say %+v", p)
				}
			}
		})
	}
}

// Nobody leases the destination: the kernel is told, and TCP gives up at once.
func TestUnleasedIsUnreachable(t *testing.T) {
	a, _ := newNodes(t, newClassic, newClassic)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // TCP by itself takes two minutes
	defer cancel()
	if _, err := a.Dial(ctx, net.Dialer{}, "tcp", "10.5.77.1:80"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Error("dialling returns", err)
	}
	waitFor(t, "a drop to be counted", func() bool { return a.Status().Drops["tx_no_peer"] > 0 })
}

// What a stranger sends, or a peer in the name of another subnet, stays out.
func TestSpoofedIsDropped(t *testing.T) {
	a, b := newNodes(t, newClassic, newClassic)
	packet := func(src, dst [4]byte) []byte {
		return append([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0}, append(src[:], dst[:]...)...)
	}
	c, err := b.Dial(t.Context(), net.Dialer{}, "udp", "192.0.2.1:8285")
	check(t, err)
	defer c.Close()
	drops := func(counter string, want uint64, datagram []byte) {
		t.Helper()
		check(t, labtest.Lossless(t, func() error {
			_, err := c.Write(datagram)
			check(t, err)
			for deadline := time.Now().Add(20 * time.Second); a.Status().Drops[counter] != want; time.Sleep(2 * time.Millisecond) {
				if time.Now().After(deadline) {
					return fmt.Errorf("drops are %v, want %d of %s", a.Status().Drops, want, counter)
				}
			}
			return nil
		}))
	}
	for _, step := range []struct {
		counter  string
		datagram []byte
	}{
		{"malformed", []byte{1, 2, 3}},
		{"not_ipv4", append([]byte{0x60, 0, 0, 0, 0, 0, 59, 64}, make([]byte, 32)...)},
		{"rx_spoofed_source", packet([4]byte{10, 5, 9, 1}, [4]byte{10, 5, 1, 1})},
		{"rx_not_for_us", packet([4]byte{10, 5, 2, 1}, [4]byte{10, 5, 3, 1})},
	} {
		drops(step.counter, 1, step.datagram)
	}
	good := packet([4]byte{10, 5, 2, 1}, [4]byte{10, 5, 1, 1})
	a.SetPeers(nil)
	drops("rx_spoofed_source", 2, good)
	check(t, a.SetOwn(subnet.Lease{}))
	drops("no_lease", 1, good)
}

func TestDeletedDeviceIsAFailure(t *testing.T) {
	a, _ := newNodes(t, newClassic, newClassic)
	check(t, a.LinkDelete(udp.DefaultDevice))
	select {
	case err := <-a.Failed():
		if !strings.Contains(err.Error(), "was the device deleted?") {
			t.Error("the failure is", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("no failure")
	}
	waitFor(t, "bad health", func() bool { return a.Health() != nil })
}

// A start that fails leaves neither device nor socket behind.
func TestFailedStart(t *testing.T) {
	a, _ := newNodes(t, newClassic, newClassic)
	u := tunnel.Underlay{Name: "eth0", MTU: 1500, IPv4: netip.MustParseAddr("192.0.2.1")}
	second, err := classic.New(classic.Config{Underlay: u, Network: network, Device: "flannel1", Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	err = a.Do(func() error { return second.Start(t.Context(), a.lease) })
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Error("a second engine on the port starts with", err)
	}
	if second.Health() == nil {
		t.Error("it claims to be healthy")
	}
	if err := a.LinkUp("flannel1"); err == nil {
		t.Error("its device is left")
	}
	check(t, a.Health())
}

func TestNewRefuses(t *testing.T) {
	good := classic.Config{
		Underlay: tunnel.Underlay{Name: "eth0", MTU: 1500, IPv4: netip.MustParseAddr("192.0.2.1")},
		Network:  network, Log: slog.New(slog.DiscardHandler),
	}
	for want, change := range map[string]func(*classic.Config){
		"IPv4 only":          func(c *classic.Config) { c.Underlay.IPv4 = netip.MustParseAddr("2001:db8::1") },
		"no IPv4 prefix":     func(c *classic.Config) { c.Network = tunnel.Network{} },
		"inside the network": func(c *classic.Config) { c.Underlay.IPv4 = netip.MustParseAddr("10.5.0.1") },
		"Backend.Port is 0":  func(c *classic.Config) { c.Backend = []byte(`{"Port":0}`) },
		"Backend.MTU is 100": func(c *classic.Config) { c.Backend = []byte(`{"MTU":100}`) },
		"read Backend":       func(c *classic.Config) { c.Backend = []byte(`{"Port":"x"}`) },
		"leaves 472 bytes":   func(c *classic.Config) { c.Underlay.MTU = 500 },
	} {
		c := good
		change(&c)
		if _, err := classic.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New returns %v, want an error with %q", err, want)
		}
	}
	for mtu, backend := range map[int]string{1472: `{}`, 1400: `{"MTU":1400}`} {
		good.Backend = []byte(backend)
		b, err := classic.New(good)
		if err != nil || b.MTU() != mtu {
			t.Errorf("with Backend %s: %v, %v", backend, b, err)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for", what)
		}
	}
}

package udp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/packet"
)

func TestSourcePort(t *testing.T) {
	for _, c := range []struct {
		hash uint32
		n    int
		want int
	}{
		{0, 1, 0}, {0xffffffff, 1, 0},
		{0x7fffffff, 2, 0}, {0x80000000, 2, 1},
		{0x55555555, 3, 0}, {0x55555556, 3, 1}, {0xaaaaaaaa, 3, 1}, {0xaaaaaaab, 3, 2},
		{0, 16, 0}, {0x10000000, 16, 1}, {0xffffffff, 16, 15},
	} {
		if got := sourcePort(c.hash, c.n); got != c.want {
			t.Errorf("hash %#x of %d ports: %d, want %d", c.hash, c.n, got, c.want)
		}
	}
}

func TestSourcePortsAreAnnounced(t *testing.T) {
	for n, want := range map[int]string{0: `{"weft":1}`, 1: `{"weft":1}`, 2: `{"weft":1,"source_ports":true}`} {
		b, err := New(testConfig(1, setup{sourcePorts: n}, new(logBuffer)))
		check(t, err)
		if _, data, _ := b.Data(); string(data) != want {
			t.Errorf("SourcePorts %d announces %s, want %s", n, data, want)
		}
	}
}

// spreadNode is an engine with four source ports and workers of its own, and a
// socket in the place of its peer's.
func spreadNode(t *testing.T, workers int, ipv6 bool) (*node, net.PacketConn, []*lab.Namespace) {
	t.Helper()
	s := setup{sourcePorts: 4, workers: workers, outer6: ipv6}
	namespaces := newUnderlay(t, s)
	a := newNode(t, namespaces[0], 1, s)
	a.SetPeers([]subnet.Lease{testLease(2, s)})
	peer := rawSocket(t, namespaces[1], netip.AddrPortFrom(outer(2, ipv6), DefaultPort))
	peer.SetDeadline(time.Now().Add(time.Minute))
	labtest.PinThreads(t, 1) // else the kernel may put packets out of order by itself
	return a, peer, namespaces
}

// sendFlows sends rounds of superpackets from 32 sockets, two datagrams each,
// and returns which outer source ports each flow, by inner port, came from. It
// fails if one came out of order.
func sendFlows(t *testing.T, a *node, peer net.PacketConn, rounds int) (ports map[uint16][]int) {
	t.Helper()
	var flows []net.PacketConn
	for range 32 {
		c := listenUDP(t, a, a.ipv4)
		raw, err := c.(*net.UDPConn).SyscallConn()
		check(t, err)
		check(t, raw.Control(func(fd uintptr) {
			check(t, unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 100))
		}))
		flows = append(flows, c)
	}
	first := uint32(0) // of the rounds of a try
	check(t, labtest.Lossless(t, func() (err error) {
		ports, err = sendRounds(t, flows, peer, first, rounds)
		first += uint32(rounds)
		return err
	}))
	return ports
}

// sendRounds has an error if a datagram was lost.
func sendRounds(t *testing.T, flows []net.PacketConn, peer net.PacketConn, first uint32, rounds int) (map[uint16][]int, error) {
	t.Helper()
	ports, next := map[uint16][]int{}, map[uint16]uint32{}
	buf := make([]byte, 2048)
	for round := first; round < first+uint32(rounds); round++ {
		payload := make([]byte, 200)
		binary.BigEndian.PutUint32(payload, 2*round)
		binary.BigEndian.PutUint32(payload[100:], 2*round+1)
		for _, c := range flows {
			_, err := c.WriteTo(payload, &net.UDPAddr{IP: net.IP{10, 5, 2, 9}, Port: 9})
			check(t, err)
		}
		for n := range 2 * len(flows) {
			peer.SetReadDeadline(time.Now().Add(patience))
			size, from, err := peer.ReadFrom(buf)
			if err != nil {
				return nil, fmt.Errorf("%d of %d datagrams arrived: %w", n, 2*len(flows), err)
			}
			flow := binary.BigEndian.Uint16(buf[20:])
			i := binary.BigEndian.Uint32(validUDP4(t, buf[:size]))
			if i < next[flow] {
				t.Fatalf("packet %d of flow %d behind %d", i, flow, next[flow]-1)
			}
			next[flow] = i + 1
			if port := from.(*net.UDPAddr).Port; !slices.Contains(ports[flow], port) {
				ports[flow] = append(ports[flow], port)
			}
		}
	}
	return ports, nil
}

// Flows to a peer that takes it leave from all ports, each from one; to others
// from the usual one only.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		workers int
		ipv6    bool
	}{{1, false}, {1, true}, {3, false}} {
		t.Run(fmt.Sprintf("%d workers, IPv%d", c.workers, version(c.ipv6)), func(t *testing.T) {
			a, peer, _ := spreadNode(t, c.workers, c.ipv6)
			used := map[int]int{}
			for flow, ports := range sendFlows(t, a, peer, 10) {
				if len(ports) != 1 {
					t.Errorf("flow %d came from %v", flow, ports)
				}
				used[ports[0]]++
			}
			// One of four is left out by 32 flows once in 2500 times.
			if len(used) < 3 || slices.ContainsFunc(slices.Collect(maps.Keys(used)), func(p int) bool { return p < 8285 || p > 8288 }) {
				t.Errorf("flows by source port: %v", used)
			}
			caps := a.Status().Capabilities
			want := fmt.Sprintf("IPv%d: 4 of the ports 8285 to 8288", version(c.ipv6))
			if last := caps[len(caps)-1]; last.Name != "source_ports" || !last.On || last.Why != want {
				t.Errorf("capability %+v", last)
			}
			if notes := a.Status().Peers[0].Notes; len(notes) != 0 {
				t.Errorf("notes %q", notes)
			}
			if c.ipv6 {
				return // flannel has none
			}
			for _, other := range []setup{{}, {flannel: true}} {
				a.SetPeers([]subnet.Lease{testLease(2, other)})
				for flow, ports := range sendFlows(t, a, peer, 1) {
					if len(ports) != 1 || ports[0] != DefaultPort {
						t.Errorf("flow %d to a peer that does not take it came from %v", flow, ports)
					}
				}
				if notes := fmt.Sprint(a.Status().Peers[0].Notes); !strings.Contains(notes, "from one source port") {
					t.Errorf("notes %s", notes)
				}
			}
		})
	}
}

// All else works as from one port: cutting, joining, both families inside.
func TestSpreadTransfer(t *testing.T) {
	a, b := newPair(t, setup{sourcePorts: 4, workers: 2})
	for _, inner6 := range []bool{false, true} {
		exchangeUDP(t, a, b, inner6)
		transferTCP(t, a, b, inner6, 8<<20)
		transferTCP(t, b, a, inner6, 8<<20)
	}
}

// extraFlow is a socket on the node whose packets leave from another port than
// the usual one; no other packet has left from there.
func extraFlow(t *testing.T, a *node, to netip.AddrPort) net.PacketConn {
	t.Helper()
	for range 100 {
		c := listenUDP(t, a, a.ipv4)
		pkt := udp4(a.ipv4.String(), to.Addr().String(), nil)
		binary.BigEndian.PutUint16(pkt[20:], c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		binary.BigEndian.PutUint16(pkt[22:], to.Port())
		var info packet.Info
		if why := info.Parse(pkt); why != packet.OK {
			t.Fatal(why)
		}
		if sourcePort(packet.FlowHash(pkt, &info), 4) != 0 {
			return c
		}
	}
	t.Fatal("a hundred flows leave from one port")
	return nil
}

// An ICMP error about a packet from a further port is noticed although nothing
// more is sent from there.
func TestSpreadRefused(t *testing.T) {
	a, peer, _ := spreadNode(t, 1, false)
	peer.Close()
	to := netip.AddrPortFrom(addr("10.5.2.9"), 9)
	for i := range uint64(3) {
		flow := extraFlow(t, a, to)
		causes(t, "port unreachable", func() {
			_, err := flow.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(to))
			check(t, err)
		}, func() bool { return a.Table().Peers()[0].State.Refused.Load() == i+1 })
	}
	// The socket's error is taken away as well, or the thread would never rest.
	waitFor(t, "the worker to be idle", func() bool { return a.threads[0].busySince.Load() == 0 })
	for _, s := range a.spread[0] {
		fds := []unix.PollFd{{Fd: int32(s.fd)}}
		if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
			t.Errorf("poll finds %#x, %v", fds[0].Revents, err)
		}
	}
}

// A path MTU is learned by what left from a further port.
func TestSpreadPathMTU(t *testing.T) {
	s := setup{sourcePorts: 4, routed: true}
	namespaces := newUnderlay(t, s)
	a, b := pairOn(t, namespaces, s)
	to := listenUDP(t, b, b.ipv4)
	from := extraFlow(t, a, to.LocalAddr().(*net.UDPAddr).AddrPort())
	probing(t, from)
	waitFor(t, "the way", func() bool { return !lost(t, from, to, 100) })
	ip(t, namespaces[3], "link", "set", "port2", "mtu", "1400")
	causes(t, "the path MTU", func() {
		if !lost(t, from, to, a.MTU()-28) {
			t.Fatal("a packet longer than the way arrives")
		}
	}, func() bool { return pathMTU(a) == 1400 })
	if !arrives(t, from, to, 1400-28-28) {
		t.Error("a packet that fits does not arrive")
	}
}

// The kernel drops what comes to a further port.
func TestNothingIsReceivedAtSourcePorts(t *testing.T) {
	a, peer, _ := spreadNode(t, 1, false)
	sink := listenUDP(t, a, a.ipv4)
	pkt := udp4(outside, a.ipv4.String(), make([]byte, 10))
	binary.BigEndian.PutUint16(pkt[22:], sink.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	pkt[26], pkt[27] = 0, 0 // no UDP checksum
	for port := uint16(8288); port >= DefaultPort; port-- {
		pkt[28] = byte(port - DefaultPort)
		_, err := peer.WriteTo(pkt, net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer(1, false), port)))
		check(t, err)
	}
	buf := make([]byte, 100)
	if _, _, err := sink.ReadFrom(buf); err != nil || buf[0] != 0 {
		t.Errorf("from port %d: %v", DefaultPort+int(buf[0]), err)
	}
	if rx := a.Table().Peers()[0].State.Rx.Packets.Load(); rx != 1 {
		t.Errorf("%d packets were received", rx)
	}
	for _, s := range a.spread[0] {
		if s.waiting() {
			t.Errorf("a datagram waits at port %d", s.addr.Port())
		}
	}
}

// A port that another process has is left out, but not the first one.
func TestSourcePortTaken(t *testing.T) {
	s := setup{sourcePorts: 4}
	namespaces := newUnderlay(t, s)
	rawSocket(t, namespaces[0], netip.AddrPortFrom(outer(1, false), 8287))
	a := newNode(t, namespaces[0], 1, s)
	caps := a.Status().Capabilities
	if why := caps[len(caps)-1].Why; why != "IPv4: 3 of the ports 8285 to 8288" {
		t.Errorf("source ports: %s", why)
	}
	if a.log.count("another process has a source port") != 1 || a.log.count("port=8287") != 1 {
		t.Errorf("log:\n%s", a.log)
	}
}

// When the process dies, the kernel closes the sockets that receive, then the
// TUN, then all else.
func TestOrderOfDescriptors(t *testing.T) {
	a, _, _ := spreadNode(t, 2, false)
	for i, list := range a.sockets {
		for _, receiving := range list {
			for _, sendOnly := range a.spread[i] {
				if queue := a.tun.queues[i]; receiving.fd < queue || queue < sendOnly.fd {
					t.Errorf("socket %d, TUN %d, further socket %d", receiving.fd, queue, sendOnly.fd)
				}
			}
		}
	}
}

func TestSpreadDoesNotAllocate(t *testing.T) {
	m := newMemNode(t, 1)
	m.setPeers(1, testLease(2, setup{sourcePorts: 4}))
	for range 3 {
		batch := newSendBatch(&nullSocket{}, false, DefaultPort, true)
		batch.counters = m.sender.counters
		m.sender.batches[0] = append(m.sender.batches[0], batch)
	}
	m.sender.batches[0][0].port = &nullSocket{}
	var packets [][]byte
	for i := range 32 {
		p := udp4(inside, outside, make([]byte, 100))
		p[21] = byte(i)
		packets = append(packets, plain(p))
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := m.sender.forward(packets); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("sending a batch allocates %v times", n)
	}
	for i, batch := range m.sender.batches[0] {
		if batch.port.(*nullSocket).messages == 0 {
			t.Errorf("nothing was sent from source port %d", i)
		}
	}
}

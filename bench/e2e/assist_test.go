package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// Nodes whose kernels carry packets that are no superpackets, and a node that
// does without: everything arrives whole and in order, and each packet goes the
// way that both ends of it know. Superpackets are user space's, as where the
// underlay cuts them; otherwise see TestSuperpackets.
func TestAssist(t *testing.T) {
	t.Parallel()
	c := build(t, onUDP.spec(3, true))
	const without = 2
	for i := range c.hosts {
		if i == without {
			c.startWeftd(i, "--udp-disable=assist")
		} else {
			c.startWeftd(i, "--udp-disable=assist_gso")
		}
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	for i := range c.hosts {
		on, programs := true, assistPrograms[:2]
		if i == without {
			on, programs = false, nil
		}
		if got := c.capabilities(i)["assist"]; got != on {
			t.Errorf("host%d: assist is in force: %v", i+1, got)
		}
		c.wantAttached(i, programs...)
	}

	t.Run("mixed", c.carriesMixed)
	t.Run("turns", c.keepsOrder)
	t.Run("beside a bulk flow", c.carriesBeside)
	t.Run("stopped daemon", c.carriesForTheStopped)
}

// carriesMixed sends everything between all three hosts, and looks at who
// carried it.
func (c *cluster) carriesMixed(t *testing.T) {
	pauses := []time.Duration{0, 110 * time.Millisecond, 0}
	for from, a := range c.hosts {
		for to, b := range c.hosts {
			if from == to {
				continue
			}
			sent, received := c.sent(from), c.received(to)
			c.exchange(a, b)
			for _, addr := range addrs(b) {
				if _, err := traffic.TakeTurnsTCP(t.Context(), a.Container.Namespace, b.Container.Namespace, addr, pauses); err != nil {
					t.Error(err)
				}
			}
			sent, received = c.sent(from).since(sent), c.received(to).since(received)
			t.Logf("host%d to host%d: sent %+v, received %+v", from+1, to+1, sent, received)
			if sent.user == 0 || received.user == 0 {
				t.Errorf("host%d to host%d: superpackets, fragments and IPv6 did not pass through weftd: sent %+v, received %+v", from+1, to+1, sent, received)
			}
			assist := c.capabilities(from)["assist"] && c.capabilities(to)["assist"]
			if least := uint64(2 * 99); assist && (sent.kernel < least || received.kernel < least) {
				t.Errorf("host%d to host%d: UDP of 64 and 1200 bytes was not the kernel's: sent %+v, received %+v", from+1, to+1, sent, received)
			}
			if !assist && (sent.kernel > 0 || received.kernel > 0) {
				t.Errorf("host%d to host%d: the kernel carried some, without an assist at both ends: sent %+v, received %+v", from+1, to+1, sent, received)
			}
		}
	}
}

// flowletGap is how long a flow that sent superpackets must be silent before the
// kernel carries its single packets.
const flowletGap = 100 * time.Millisecond

// turnPauses are around flowletGap, each of them twice: before a flow changes
// between superpackets and single packets.
func turnPauses() (pauses []time.Duration) {
	for range 2 {
		for _, ms := range []time.Duration{0, 20, 60, 90, 97, 100, 103, 110, 130, 200} {
			pauses = append(pauses, ms*time.Millisecond)
		}
	}
	return pauses
}

// keepsOrder has flows change between superpackets and single packets. The kernel by
// itself may put packets out of order on a busy machine, which leave by the queues of
// two CPUs when their sender is moved (TestTurns of bench/traffic): so one run of some
// must be in order.
func (c *cluster) keepsOrder(t *testing.T) {
	a, b := c.hosts[0].Container, c.hosts[1].Container
	pauses := turnPauses()
	// Whatever the order, both ways are to be taken.
	ways := func(what string, before carried) {
		if both := c.sent(0).since(before); both.kernel == 0 || both.user == 0 {
			t.Errorf("%s did not change its way: %+v", what, both)
		}
	}
	labtest.OneOfSome(t, func() (amiss string) {
		before := c.sent(0)
		tcp, err := traffic.TakeTurnsTCP(t.Context(), a.Namespace, b.Namespace, b.IPv4, pauses)
		if err != nil {
			t.Error(err)
		}
		ways("TCP", before)
		t.Logf("TCP %+v", tcp)
		if tcp.Reordered > 0 || tcp.Duplicate > 0 && tcp.Retransmitted == 0 {
			amiss = fmt.Sprintf("TCP out of order: %+v", tcp)
		}
		return amiss
	})
	labtest.OneOfSome(t, func() (amiss string) {
		before := c.sent(0)
		udp, err := traffic.TakeTurnsUDP(t.Context(), a.Namespace, b.Namespace, b.IPv4, pauses)
		if err != nil {
			t.Error(err)
		}
		ways("UDP", before)
		t.Logf("UDP %+v", udp)
		// No more is promised: what weftd holds for longer, on a machine with far too
		// much to do, may be overtaken.
		if udp.Arrived < udp.Sent*99/100 || udp.Overtaken > 0 && udp.Quickest < flowletGap {
			amiss = fmt.Sprintf("UDP lost or out of order: %+v", udp)
		}
		return amiss
	})
}

// carriesBeside sends small datagrams beside a bulk flow, which they pass by.
func (c *cluster) carriesBeside(t *testing.T) {
	a, b := c.hosts[0].Container, c.hosts[1].Container
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := traffic.StartSteady(ctx, a.Namespace, b.Namespace, b.IPv4, traffic.FullPortion)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var ways carried
	// A flow may share its entry of the kernel's table with the bulk flow, and so
	// its way, once in 8192 times.
	for range 2 {
		if err := stream.Advance(ctx, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		before := c.sent(0)
		echoes(t, "beside a bulk flow", a.Namespace, b.Namespace, b.IPv4, traffic.EchoOptions{Count: 200, Size: 64})
		if ways = c.sent(0).since(before); ways.kernel >= 200 {
			break
		}
	}
	if ways.kernel < 200 || ways.user == 0 {
		t.Errorf("of a bulk flow and 200 small datagrams: %+v", ways)
	}
	if _, err := stream.Finish(ctx); err != nil {
		t.Error(err)
	}
}

// carriesForTheStopped: what the kernel carries does not wait for weftd, and what
// weftd carries is late, not lost.
func (c *cluster) carriesForTheStopped(t *testing.T) {
	a, b := c.hosts[0].Container, c.hosts[1].Container
	for i := range 2 {
		thaw := c.pause(i)
		echoes(t, fmt.Sprintf("while weftd on host%d is stopped", i+1), a.Namespace, b.Namespace, b.IPv4, traffic.EchoOptions{Count: 100, Size: 1200})
		thaw()
		c.exchange(c.hosts[0], c.hosts[1])
	}
}

// carried counts packets by who carried them.
type carried struct{ kernel, user uint64 }

func (n carried) since(before carried) carried {
	return carried{n.kernel - before.kernel, n.user - before.user}
}

// ways counts what a host has sent to all others, and received from them.
func (c *cluster) ways(i int) (sent, received carried) {
	c.t.Helper()
	b := c.status(i).Backend
	sent.kernel, received.kernel = b.ByKernel.TxPackets, b.ByKernel.RxPackets
	for _, p := range b.Peers {
		sent.user += p.TxPackets
		received.user += p.RxPackets
	}
	sent.user -= sent.kernel
	received.user -= received.kernel
	return sent, received
}

func (c *cluster) sent(i int) carried {
	c.t.Helper()
	sent, _ := c.ways(i)
	return sent
}

func (c *cluster) received(i int) carried {
	c.t.Helper()
	_, received := c.ways(i)
	return received
}

// byKernel waits until datagrams between the containers of two hosts, and their
// answers, are carried by the kernels.
func (c *cluster) byKernel(from, to int) {
	c.t.Helper()
	const count = 20
	counters := func() [4]carried {
		return [4]carried{c.sent(from), c.received(to), c.sent(to), c.received(from)}
	}
	a, b := c.hosts[from].Container, c.hosts[to].Container
	c.eventually(func() string {
		before := counters()
		r, err := traffic.EchoUDP(c.t.Context(), a.Namespace, b.Namespace, b.IPv4, traffic.EchoOptions{Count: count, Size: 64})
		if err != nil || r.Returned < count {
			return fmt.Sprintf("%+v, %v", r, err)
		}
		for i, now := range counters() {
			if grown := now.since(before[i]); grown.kernel < count {
				return fmt.Sprintf("of %d datagrams from host%d to host%d and their answers, one of the kernels carried %+v", count, from+1, to+1, grown)
			}
		}
		return ""
	})
}

// assistPrograms are the places of the programs on a host of the lab; the last is
// for superpackets only.
var assistPrograms = []string{"eth0 ingress", "flannel0 egress", gsoDevice + " ingress"}

// wantAttached waits until programs are attached to a host's devices at these
// places, and no others.
func (c *cluster) wantAttached(i int, places ...string) {
	c.t.Helper()
	c.eventually(func() (amiss string) {
		var got []string
		if err := c.hosts[i].Do(func() (err error) {
			got, err = attachedPrograms()
			return err
		}); err != nil {
			c.t.Fatal(err)
		}
		if !slices.Equal(got, places) {
			amiss = fmt.Sprintf("host%d has programs at %q, want %q", i+1, got, places)
		}
		return amiss
	})
}

// attachedPrograms lists "device direction" for each program (TCX) of the
// namespace, sorted.
func attachedPrograms() (places []string, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		for direction, at := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
			if err != nil {
				return nil, fmt.Errorf("query %s of %s: %w", direction, l.Attrs().Name, err)
			}
			for range r.Programs {
				places = append(places, l.Attrs().Name+" "+direction)
			}
		}
	}
	slices.Sort(places)
	return places, nil
}

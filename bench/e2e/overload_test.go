package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// When more is offered than is carried, queues fill and no more than that: each
// datagram arrives or is counted where it was dropped, and afterwards the
// tunnel is as before. It is weftd's queues that this is about in the first
// place, and not what the kernel carries past them.
func TestOverload(t *testing.T) {
	c := build(t, spec{})
	for i, h := range c.hosts {
		// One packet, one count: the kernel counts a superpacket that finds a
		// socket's buffer full as one.
		if err := h.SetFeatures("eth0", map[string]bool{"tx-udp-segmentation": false, "rx-gro": false}); err != nil {
			t.Fatal(err)
		}
		// Nor anything of IPv6's own accord among what is counted.
		if err := h.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		c.startWeftd(i, "--udp-disable=assist")
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	a, b := c.hosts[0].Container, c.hosts[1].Container
	f := c.startFlood(a.Namespace, b.Namespace, b.IPv4)
	f.send(100)
	c.eventually(func() string {
		if f.arrived.Load() < f.offered {
			return "not even an idle tunnel carries everything"
		}
		return ""
	})
	before, memory := c.losses(), []uint64{c.memory(0, "VmRSS"), c.memory(1, "VmRSS")}

	// A sender that does not read its TUN, a receiver that does not read its
	// socket, then both as busy as the machine allows.
	thaw := c.pause(0)
	f.until(100_000, func() bool { return c.lost(before, "host1 flannel0") > 1000 })
	thaw()
	thaw = c.pause(1)
	f.until(400_000, func() bool { return c.snmp(c.hosts[1].Namespace, "Udp", "RcvbufErrors") > 1000 })
	thaw()
	f.send(100_000)

	ended := time.Now()
	c.eventually(func() string {
		if f.sendMarked(); !f.marked.Load() {
			return "nothing sent after the overload arrives"
		}
		return ""
	})
	served := time.Since(ended)
	c.accountsFor(f, before)
	now := c.since(before)
	t.Logf("%d sent, %d arrived, dropped: %v; served again after %v", f.offered, f.arrived.Load(), now, ms(served))
	pings(t, "after the overload", a.Namespace, b.IPv4, traffic.PingOptions{})
	if now["host1 flannel0"] == 0 || now["weftd2 rx_socket_full"] == 0 {
		t.Error("the queues were not full")
	}
	if got, want := c.snmp(c.hosts[1].Namespace, "Udp", "RcvbufErrors"), now["weftd2 rx_socket_full"]; got != want {
		t.Errorf("the kernel dropped %d datagrams of the tunnel, weftd counts %d", got, want)
	}
	for i, was := range memory {
		if now := c.memory(i, "VmHWM"); now > was+maxGrowth {
			t.Errorf("weftd on host%d grew from %d to %d KiB", i+1, was, now)
		}
	}
	c.exchange(c.hosts[0], c.hosts[1])
	c.exchange(c.hosts[1], c.hosts[0])

	for i := range c.hosts {
		c.stopWeftd(i)
		c.startWeftd(i, "--udp-disable=assist_floods")
	}
	for i := range c.hosts {
		c.waitReady(i)
	}
	c.byKernel(0, 1)
	f.forget()
	before, sent := c.losses(), c.sent(0)
	f.send(100_000)
	c.accountsFor(f, before)
	if by := c.sent(0).since(sent); by.kernel < f.offered/2 {
		t.Errorf("of %d datagrams: %+v", f.offered, by)
	}
	t.Logf("by the kernel: %d sent, %d arrived, dropped: %v", f.offered, f.arrived.Load(), c.since(before))
}

// accountsFor waits until of what was sent each datagram has arrived or was
// counted where it was dropped.
func (c *cluster) accountsFor(f *flood, before map[string]uint64) {
	c.t.Helper()
	c.eventually(func() string {
		// A socket tells of those that it dropped with the next one only.
		f.send(1)
		arrived, lost := f.arrived.Load(), uint64(0)
		for _, n := range c.since(before) {
			lost += n
		}
		if missing := int64(f.offered - arrived - lost); max(missing, -missing) > int64(f.offered/uncounted) {
			return fmt.Sprintf("%d datagrams sent, %d arrived, %d counted as dropped: %v", f.offered, arrived, lost, c.since(before))
		}
		return ""
	})
}

// uncounted: of so many datagrams one may get lost where the kernel counts by
// CPU and not by namespace, for instance in the queues between devices.
const uncounted = 10_000

// maxGrowth is by how many KiB weftd may grow under load: what it queued would
// be more.
const maxGrowth = 16 << 10

// flood sends datagrams as fast as a program can that sends them singly.
type flood struct {
	t       testing.TB
	conn    net.Conn
	offered uint64 // datagrams that the kernel took
	arrived atomic.Uint64
	marked  atomic.Bool // one of sendMarked's is among them
}

func (c *cluster) startFlood(from, to *lab.Namespace, addr netip.Addr) *flood {
	c.t.Helper()
	f := &flood{t: c.t}
	server, err := to.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", netip.AddrPortFrom(addr, innerPort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 2048); ; {
			if _, _, err := server.ReadFrom(buf); err != nil {
				return
			}
			f.arrived.Add(1)
			if buf[0] != 0 {
				f.marked.Store(true)
			}
		}
	}()
	c.t.Cleanup(func() {
		server.Close()
		<-done
	})
	if f.conn, err = from.Dial(c.t.Context(), net.Dialer{}, "udp4", server.LocalAddr().String()); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { f.conn.Close() })
	return f
}

// send offers so many datagrams; those that the sender's own kernel refuses
// are not counted as offered.
func (f *flood) send(n int) {
	f.t.Helper()
	f.sendEach(n, make([]byte, 64))
}

// forget begins to count anew, when nothing is on the way.
func (f *flood) forget() {
	f.offered = 0
	f.arrived.Store(0)
}

// sendMarked offers one that can be told from those of send.
func (f *flood) sendMarked() {
	f.t.Helper()
	f.sendEach(1, []byte{1})
}

func (f *flood) sendEach(n int, payload []byte) {
	f.t.Helper()
	for range n {
		switch _, err := f.conn.Write(payload); {
		case err == nil:
			f.offered++
		case !errors.Is(err, unix.ENOBUFS):
			f.t.Fatal(err)
		}
	}
}

// until sends until a condition holds, but not without end.
func (f *flood) until(most uint64, ok func() bool) {
	f.t.Helper()
	for end := f.offered + most; !ok(); f.send(5000) {
		if f.offered > end {
			f.t.Fatalf("%d datagrams do not overload it", most)
		}
	}
}

// pause stops a host's weftd by SIGSTOP, until thaw.
func (c *cluster) pause(i int) (thaw func()) {
	c.t.Helper()
	signal := func(s unix.Signal) {
		if err := c.weftds[i].Signal(s); err != nil {
			c.t.Fatal(err)
		}
	}
	signal(unix.SIGSTOP)
	return func() { signal(unix.SIGCONT) }
}

// losses are the counters of all places at which a datagram from host1's
// container to host2's can get lost, by name.
func (c *cluster) losses() map[string]uint64 {
	c.t.Helper()
	all := make(map[string]uint64)
	a, b := c.hosts[0], c.hosts[1]
	for name, ns := range map[string]*lab.Namespace{
		"container1": a.Container.Namespace, "host1": a.Namespace, "switch": c.Switch, "host2": b.Namespace, "container2": b.Container.Namespace,
	} {
		if err := ns.Do(func() error { return addDeviceDrops(all, name) }); err != nil {
			c.t.Fatal(err)
		}
		for _, counter := range []string{"InDiscards", "OutDiscards", "OutNoRoutes"} {
			all[name+" Ip"+counter] = c.snmp(ns, "Ip", counter)
		}
	}
	all["container2 UdpRcvbufErrors"] = c.snmp(b.Container.Namespace, "Udp", "RcvbufErrors")
	for i := range c.hosts {
		for reason, n := range c.status(i).Backend.Drops {
			if reason != "tx_not_unicast" { // what IPv6 says to all neighbours
				all[fmt.Sprintf("weftd%d %s", i+1, reason)] = n
			}
		}
	}
	return all
}

// addDeviceDrops adds what the devices of a namespace, and the queues before
// them, did not send. A packet that a veth's other end does not take is counted
// there, too.
func addDeviceDrops(all map[string]uint64, namespace string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := namespace + " " + l.Attrs().Name
		all[name] = l.Attrs().Statistics.TxDropped
		if l.Type() == "tuntap" {
			all[name+" written"] = l.Attrs().Statistics.RxDropped
		}
		queues, err := netlink.QdiscList(l)
		if err != nil {
			return err
		}
		for _, q := range queues {
			if s := q.Attrs().Statistics; q.Attrs().Parent == netlink.HANDLE_ROOT && s != nil && s.Queue != nil {
				all[name+" queue"] = uint64(s.Queue.Drops)
			}
		}
	}
	return nil
}

// since returns by how much the losses have grown, those that have.
func (c *cluster) since(before map[string]uint64) map[string]uint64 {
	c.t.Helper()
	grown := make(map[string]uint64)
	for name, n := range c.losses() {
		if n > before[name] {
			grown[name] = n - before[name]
		}
	}
	return grown
}

// lost is by how much one of the losses has grown that are not weftd's.
func (c *cluster) lost(before map[string]uint64, name string) uint64 {
	c.t.Helper()
	now := make(map[string]uint64)
	if err := c.hosts[0].Do(func() error { return addDeviceDrops(now, "host1") }); err != nil {
		c.t.Fatal(err)
	}
	return now[name] - before[name]
}

// snmp reads a counter of a namespace from /proc/net/snmp or netstat, in which a
// line of names precedes one of values.
func (c *cluster) snmp(ns *lab.Namespace, protocol, name string) (value uint64) {
	c.t.Helper()
	if err := ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		more, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(append(text, more...))) {
			fields := strings.Fields(line)
			if fields[0] != protocol+":" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			if i := slices.Index(names, name); i >= 0 {
				value, err = strconv.ParseUint(fields[i], 10, 64)
				return err
			}
		}
		return fmt.Errorf("no %s %s", protocol, name)
	}); err != nil {
		c.t.Fatal(err)
	}
	return value
}

// memory reads a field of the status of a host's weftd, in KiB.
func (c *cluster) memory(i int, field string) uint64 {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.weftds[i].PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return n
		}
	}
	c.t.Fatalf("no %s", field)
	return 0
}

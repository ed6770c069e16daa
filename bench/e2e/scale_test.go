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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/bench/lab"
)

// What it costs a node that there are many others: docs/scale.md has figures.

// BenchmarkIdleMemory measures what an idle weftd keeps resident, in MB (10⁶
// bytes): once it is up, and again after some nodes have renewed their leases.
func BenchmarkIdleMemory(b *testing.B) {
	for _, test := range []struct {
		peers   int
		limitMB float64
	}{{100, 40}, {10_000, 100}} {
		b.Run(strconv.Itoa(test.peers), func(b *testing.B) {
			c, etcd, _ := startInCrowd(b, test.peers)
			time.Sleep(idle)
			up := c.residentMB(0)
			var renewed []float64
			for b.Loop() {
				for i := range 20 {
					key, value := leaseOf(i, crowdIP(i))
					if _, err := etcd.Put(b.Context(), key, value, clientv3.WithIgnoreLease()); err != nil {
						b.Fatal(err)
					}
					time.Sleep(20 * time.Millisecond) // each is an event of its own
				}
				time.Sleep(idle)
				renewed = append(renewed, c.residentMB(0))
			}
			b.ReportMetric(up, "MB")
			b.ReportMetric(slices.Max(renewed), "MB-after-renewals")
			b.ReportMetric(0, "ns/op") // is mostly sleep
			for deadline := time.Now().Add(settled); c.residentMB(0) > test.limitMB; time.Sleep(idle) {
				if time.Now().After(deadline) {
					b.Fatalf("still %.1f MB resident after %v, want at most %.0f", c.residentMB(0), settled, test.limitMB)
				}
			}
		})
	}
}

// idle is how long weftd is left alone before its memory is measured, and settled how
// long it has to be within the limit: Go gives back little by little what it has no use
// for, and collects after two minutes at the latest, however little was allocated.
const (
	idle    = 2 * time.Second
	settled = 4 * time.Minute
)

// BenchmarkLeaseToPeerTable measures the time from just before a lease is
// written to etcd until a packet to its subnet arrives at the node that it
// names, and from just before it is deleted until the last one does.
func BenchmarkLeaseToPeerTable(b *testing.B) {
	for _, peers := range []int{100, 10_000} {
		b.Run(strconv.Itoa(peers), func(b *testing.B) {
			c, etcd, lease := startInCrowd(b, peers)
			p := c.startPinger(c.hosts[0], c.hosts[1])
			var come, gone []float64 // ms
			for b.Loop() {
				for i := range 32 {
					key, value := leaseOf(peers+i, c.hosts[1].IPv4)
					p.aim(crowdSubnet(peers + i).Addr().Next())
					begin := time.Now()
					if _, err := etcd.Put(b.Context(), key, value, clientv3.WithLease(lease)); err != nil {
						b.Fatal(err)
					}
					come = append(come, p.first().Sub(begin).Seconds()*1e3)
					begin = time.Now()
					if _, err := etcd.Delete(b.Context(), key); err != nil {
						b.Fatal(err)
					}
					gone = append(gone, p.last(begin).Sub(begin).Seconds()*1e3)
				}
			}
			slices.Sort(come)
			slices.Sort(gone)
			b.ReportMetric(come[len(come)/2], "ms-median")
			b.ReportMetric(come[len(come)-1], "ms-max")
			b.ReportMetric(gone[len(gone)/2], "ms-median-deleted")
			b.ReportMetric(gone[len(gone)-1], "ms-max-deleted")
			b.ReportMetric(0, "ns/op") // is mostly waiting
		})
	}
}

// startInCrowd starts weftd on the first of two hosts, among so many peers.
func startInCrowd(b *testing.B, peers int) (*cluster, *clientv3.Client, clientv3.LeaseID) {
	b.Helper()
	c := build(b, spec{config: crowdConfig})
	etcd := c.etcdClient()
	lease := c.crowd(etcd, peers)
	c.startWeftd(0)
	c.waitReady(0)
	c.eventually(func() string {
		if s := c.status(0); len(s.Backend.Peers) != peers {
			return fmt.Sprintf("weftd knows %d peers of %d (%s)", len(s.Backend.Peers), peers, s.reasons())
		}
		return ""
	})
	return c, etcd, lease
}

// residentMB is what of a host's weftd is in memory, in 10⁶ bytes.
func (c *cluster) residentMB(i int) float64 {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.weftds[i].PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nVmRSS:")
	text, _, _ := strings.Cut(after, "kB") // of 1024 bytes, proc_pid_status(5)
	kb, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		c.t.Fatalf("resident memory of weftd: %v", err)
	}
	return float64(kb) * 1024 / 1e6
}

// A pinger sends packets from one host to an address of the overlay, and sees
// which arrive at the tunnel port of another host, where no weftd runs.
type pinger struct {
	c        *cluster
	target   atomic.Pointer[netip.Addr]
	arrivals chan arrival
}

type arrival struct {
	inner netip.Addr // destination
	at    time.Time
}

// pingInterval is the time between two packets, and so how exactly times are
// measured.
const pingInterval = 250 * time.Microsecond

// startPinger starts the pinger, which ends with the test.
func (c *cluster) startPinger(from, to *lab.Host) *pinger {
	c.t.Helper()
	p := &pinger{c: c, arrivals: make(chan arrival, 1<<16)}
	p.aim(to.IPv4)
	out, err := from.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", ":0")
	if err != nil {
		c.t.Fatal(err)
	}
	in, err := to.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", netip.AddrPortFrom(to.IPv4, tunnelPort).String())
	if err != nil {
		out.Close()
		c.t.Fatal(err)
	}
	var loops sync.WaitGroup
	loops.Go(func() { p.send(out) })
	loops.Go(func() { p.receive(in) })
	c.t.Cleanup(func() {
		out.Close()
		in.Close()
		loops.Wait()
	})
	return p
}

// aim sends what follows to an address.
func (p *pinger) aim(at netip.Addr) { p.target.Store(&at) }

func (p *pinger) send(conn net.PacketConn) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for range tick.C {
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(*p.target.Load(), innerPort))
		if _, err := conn.WriteTo([]byte("weft"), to); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (p *pinger) receive(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		at := time.Now()
		if err != nil {
			close(p.arrivals)
			return
		}
		if n >= 20 {
			p.arrivals <- arrival{netip.AddrFrom4([4]byte(buf[16:20])), at}
		}
	}
}

// first waits for a packet to the present target.
func (p *pinger) first() time.Time {
	p.c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case a := <-p.arrivals:
			if a.inner == *p.target.Load() {
				return a.at
			}
		case <-timeout:
			p.c.t.Fatalf("no packet to %s arrived within %v", p.target.Load(), patience)
		}
	}
}

// last waits until packets arrive no more, and returns when the last one after
// begin did, or begin.
func (p *pinger) last(begin time.Time) (last time.Time) {
	p.c.t.Helper()
	last = begin
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case a := <-p.arrivals:
			last = a.at
		case <-time.After(400 * pingInterval):
			return last
		}
	}
	p.c.t.Fatalf("packets to %s still arrive after %v", p.target.Load(), patience)
	return last
}

package udp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/subnet"
)

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

func routes(t *testing.T, ns *lab.Namespace, family string) string {
	t.Helper()
	return ip(t, ns, family, "route", "show", "proto", "87")
}

// Start makes device, addresses, routes and parameters; Close leaves the
// unreachable routes and nothing else.
func TestLife(t *testing.T) {
	namespaces := newUnderlay(t, setup{})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	b, err := New(testConfig(1, setup{}, new(logBuffer)))
	check(t, err)
	lease := testLease(1, setup{})
	for range 3 {
		files := openFiles(t)
		check(t, namespaces[0].Do(func() error { return b.Start(t.Context(), lease) }))
		check(t, b.Health())
		wantLines(t, routes(t, namespaces[0], "-4"), "10.5.0.0/16 dev flannel0 scope link src 10.5.1.0", "unreachable 10.5.0.0/16 metric 2147483647")
		wantLines(t, routes(t, namespaces[0], "-6"), "fd00:5::/32 dev flannel0 src fd00:5:1:: metric 1024", "unreachable fd00:5::/32 dev lo metric 2147483647")
		link := ip(t, namespaces[0], "addr", "show", "dev", "flannel0")
		for _, want := range []string{"mtu 1472", "qlen 500", "inet 10.5.1.0/32 ", "inet6 fd00:5:1::/128 ", ",UP,"} {
			if !strings.Contains(link, want) {
				t.Errorf("%q is missing in\n%s", want, link)
			}
		}
		if strings.Contains(link, "fe80") {
			t.Errorf("a link-local address on the device:\n%s", link)
		}
		check(t, b.Close())
		if b.Health() == nil {
			t.Error("healthy after Close")
		}
		if namespaces[0].Do(func() error { return b.Start(t.Context(), lease) }) == nil {
			t.Error("it starts again, and carries nothing")
			check(t, b.Close())
		}
		if out, err := namespaces[0].Output("ip", "link", "show", "flannel0"); err == nil {
			t.Errorf("the device is still there: %s", out)
		}
		wantLines(t, routes(t, namespaces[0], "-4"), "unreachable 10.5.0.0/16 metric 2147483647")
		wantLines(t, routes(t, namespaces[0], "-6"), "unreachable fd00:5::/32 dev lo metric 2147483647")
		if n := openFiles(t); n != files {
			t.Errorf("%d files open before, %d after", files, n)
		}
		b, err = New(testConfig(1, setup{}, new(logBuffer)))
		check(t, err)
	}
}

func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(strings.ReplaceAll(lines[i], "pref medium", "")), " ")
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestDeviceDeleted(t *testing.T) {
	a, b := newPair(t, setup{})
	check(t, a.LinkDelete("flannel0"))
	select {
	case err := <-a.Failed():
		if !strings.Contains(err.Error(), "was the device deleted?") {
			t.Errorf("failed with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("no failure is reported")
	}
	waitFor(t, "the thread to have ended", func() bool { return a.Health() != nil })
	waitFor(t, "the status to name it", func() bool {
		return strings.Contains(strings.Join(a.Status().Problems, "\n"), "link flannel0: the link does not exist now")
	})
	check(t, a.Close())
	// A new one takes its place.
	again := newNode(t, a.Namespace, 1, setup{})
	again.SetPeers(leases(b))
	transferTCP(t, again, b, false, 1<<20)
}

// The device set down by someone is brought up again, and traffic goes on.
func TestDeviceDown(t *testing.T) {
	a, b := newPair(t, setup{})
	check(t, a.LinkDown("flannel0"))
	transferTCP(t, b, a, false, 1<<20)
	check(t, a.Health())
}

// Peers come and go while traffic flows to one of them.
func TestSetPeersMeanwhile(t *testing.T) {
	a, b := newPair(t, setup{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			list := leases(b)
			for n := 3; n < 3+i%50; n++ {
				list = append(list, testLease(n, setup{}))
			}
			a.SetPeers(list)
			b.SetPeers(append(leases(a), list[1:]...))
		}
	}()
	transferTCP(t, a, b, false, 16<<20)
	transferTCP(t, b, a, true, 16<<20)
	stop()
	<-done
	for _, n := range []*node{a, b} {
		if d := n.drops(); d["tx_no_peer"]+d["rx_unknown_sender"]+d["rx_spoofed_source"] > 0 {
			t.Errorf("drops: %v", d)
		}
		if p := n.Status().Peers[0]; p.TxBytes < 16<<20 || p.RxBytes < 16<<20 {
			t.Errorf("the peer's counters did not survive: %+v", p)
		}
	}
}

// Without its lease a node carries nothing; with another it has another
// tunnel address.
func TestSetOwn(t *testing.T) {
	a, b := newPair(t, setup{})
	check(t, a.SetOwn(subnet.Lease{}))
	from := listenUDP(t, a, a.ipv4)
	to := listenUDP(t, b, b.ipv4)
	causes(t, "drops to be counted", func() {
		if !lost(t, from, to, 100) || !lost(t, to, from, 100) {
			t.Error("a node without a lease carries packets")
		}
	}, func() bool {
		d := a.drops()
		return d["tx_no_lease"] > 0 && d["rx_no_lease"] > 0
	})
	check(t, a.SetOwn(a.lease))
	if !arrives(t, from, to, 100) {
		t.Error("the lease is back but packets are not carried")
	}
	moved := testLease(7, setup{})
	moved.Attrs.PublicIP = outer(1, false)
	check(t, a.SetOwn(moved))
	a.lease, a.ipv4, a.ipv6 = moved, moved.Subnet.IPv4.Addr(), moved.Subnet.IPv6.Addr()
	b.SetPeers(leases(a))
	transferTCP(t, a, b, false, 1<<20)
	transferTCP(t, b, a, true, 1<<20)
	wantLines(t, routes(t, a.Namespace, "-4"), "10.5.0.0/16 dev flannel0 scope link src 10.5.7.0", "unreachable 10.5.0.0/16 metric 2147483647")
}

// What keeps a node from starting is said with its remedy, and nothing is left
// behind.
func TestStartErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, ns *lab.Namespace) // before, in the namespace
		enter   func() error                          // on the thread that starts
		want    []string
	}{
		{"port in use", func(t *testing.T, ns *lab.Namespace) {
			rawSocket(t, ns, netip.AddrPortFrom(outer(1, false), DefaultPort))
		}, nil, []string{"another process has UDP port 8285", "Backend.Port"}},
		{"address gone", func(t *testing.T, ns *lab.Namespace) {
			ip(t, ns, "addr", "flush", "dev", "eth0")
		}, nil, []string{"this host has no address 192.0.2.1"}},
		{"another weftd", func(t *testing.T, ns *lab.Namespace) {
			cfg := testConfig(1, setup{}, new(logBuffer))
			cfg.Backend = []byte(`{"Port":9999}`)
			other, err := New(cfg)
			check(t, err)
			check(t, ns.Do(func() error { return other.Start(t.Context(), testLease(1, setup{})) }))
			t.Cleanup(func() { check(t, other.Close()) })
		}, nil, []string{"another process has it open: does another weftd or flanneld run?"}},
		{"persistent TUN", func(t *testing.T, ns *lab.Namespace) {
			ip(t, ns, "tuntap", "add", "flannel0", "mode", "tun")
		}, nil, []string{"a persistent TUN of this name", "ip link delete flannel0"}},
		{"persistent TAP", func(t *testing.T, ns *lab.Namespace) {
			ip(t, ns, "tuntap", "add", "flannel0", "mode", "tap")
		}, nil, []string{"a TAP has this name", "ip link delete flannel0"}},
		{"not a TUN", func(t *testing.T, ns *lab.Namespace) {
			check(t, ns.Bridge("flannel0", 1500))
		}, nil, []string{"a device of type bridge has this name", "ip link delete flannel0"}},
		{"no /dev/net/tun", nil, hideTUN, []string{"modprobe tun", "mknod /dev/net/tun c 10 200"}},
		{"no CAP_NET_ADMIN", nil, dropCapabilities, []string{"CAP_NET_ADMIN"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := newUnderlay(t, setup{})[0]
			if c.prepare != nil {
				c.prepare(t, ns)
			}
			before := routes(t, ns, "-4") + routes(t, ns, "-6")
			files := openFiles(t)
			b, err := New(testConfig(1, setup{}, new(logBuffer)))
			check(t, err)
			err = ns.Do(func() error {
				if c.enter != nil {
					if err := c.enter(); err != nil {
						t.Error(err)
						return nil
					}
				}
				return b.Start(t.Context(), testLease(1, setup{}))
			})
			if err == nil {
				b.Close()
				t.Fatal("it starts")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
			t.Log(err)
			if n := openFiles(t); n != files {
				t.Errorf("%d files open before, %d after", files, n)
			}
			if after := routes(t, ns, "-4") + routes(t, ns, "-6"); after != before {
				t.Errorf("routes before:\n%safter:\n%s", before, after)
			}
			if b.Health() == nil {
				t.Error("healthy though it did not start")
			}
		})
	}
}

// hideTUN has the calling thread see no /dev/net/tun.
func hideTUN() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("none", "/dev/net", "tmpfs", 0, "")
}

// dropCapabilities takes all from the calling thread.
func dropCapabilities() error {
	var none [2]unix.CapUserData
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
}

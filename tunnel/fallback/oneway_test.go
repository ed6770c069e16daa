package fallback

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/udp"
)

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

// A node without a TUN, and one with the udp backend alone, among nodes with
// both: each is reached in the one way that it has.
func TestOneWayOnly(t *testing.T) {
	l := kerneltest.New(t, kerneltest.Options{Hosts: 3, New: func(n *kerneltest.Node) (b tunnel.Backend, err error) {
		if n.Number == 3 {
			cfg := nodeConfig(n, withFallback).Config
			return udp.New(cfg)
		}
		doErr := n.Do(func() error {
			if n.Number == 2 {
				if err := hideTUN(); err != nil {
					return err
				}
			}
			b, err = New(nodeConfig(n, withFallback))
			return nil
		})
		kerneltest.Check(t, doErr)
		return b, err
	}})
	both, noTUN, plain := l.Nodes[0], l.Nodes[1], l.Nodes[2]

	if _, data, _ := both.Data(); !strings.Contains(string(data), `"weft":1,"probe":1,"assist":true,"VNI":1,"VtepMAC":"`) {
		t.Errorf("a node with both announces %s", data)
	}
	if _, data, _ := noTUN.Data(); !strings.Contains(string(data), `"weft":1,"no_udp":true,"VNI":1,"VtepMAC":"`) {
		t.Errorf("a node without a TUN announces %s", data)
	}

	kerneltest.Exchange(t, both, noTUN)
	if p := pathTo(both, noTUN); p != "vxlan" {
		t.Errorf("the node without a TUN is reached by %s", p)
	}
	if got := peerRoutes(t, both, noTUN); strings.Contains(got, "flannel0") {
		t.Errorf("routes to it: %s", got)
	}
	kerneltest.Exchange(t, both, plain)
	if p := pathTo(both, plain); p != "udp" {
		t.Errorf("the node without a VTEP is reached by %s", p)
	}
	if got := peerRoutes(t, both, plain); got != "" {
		t.Errorf("routes to it: %s", got)
	}

	s := noTUN.Status()
	if len(s.Peers) != 1 || len(s.Skipped) != 1 || s.Skipped[0].Subnet != plain.Lease.Subnet.IPv4.String() {
		t.Errorf("the node without a TUN serves %+v and skips %+v", s.Peers, s.Skipped)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "modprobe tun") || !strings.Contains(noTUN.Log.String(), "there is no TUN") {
		t.Errorf("problems %q, log\n%s", s.Problems, noTUN.Log)
	}
	if n := strings.Count(noTUN.Log.String(), "a lease cannot be served"); n != 1 {
		t.Errorf("%d leases are told of, want 1:\n%s", n, noTUN.Log)
	}
	if err := noTUN.Health(); err != nil {
		t.Error(err)
	}
	if labtest.Full(t, "a TUN that comes later") { // the goroutine that looks for it has one
		select {
		case err := <-noTUN.Failed():
			if !errors.Is(err, tunnel.ErrOutdone) {
				t.Error(err)
			}
		case <-time.After(tunInterval + time.Minute):
			t.Error("there is a TUN, and nobody notices")
		}
	}
	if s := plain.Status(); len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0].Why, "no TUN") {
		t.Errorf("the node without a VTEP skips %+v", s.Skipped)
	}
}

func TestCheckSettings(t *testing.T) {
	for _, c := range []struct{ backend, want string }{
		{``, ""},
		{`{"Type":"udp"}`, ""},
		{`{"Fallback":"vxlan"}`, ""},
		{`{"Fallback":"vxlan","Port":9000,"MTU":1400,"VXLAN":{"VNI":7,"Port":4789,"Learning":true,"GBP":true,"TxChecksum":"off"}}`, ""},
		{`{"Fallback":"host-gw"}`, `Backend.Fallback is "host-gw"`},
		{`{"Fallback":1}`, "cannot unmarshal"},
		{`{"VXLAN":{}}`, `goes with "Fallback": "vxlan"`},
		{`{"Fallback":"vxlan","VXLAN":1}`, "Backend.VXLAN"},
		{`{"Fallback":"vxlan","VXLAN":{"MTU":1500}}`, "Backend.MTU is that of both"},
		{`{"Fallback":"vxlan","VXLAN":{"DirectRouting":true}}`, "DirectRouting"},
		{`{"Fallback":"vxlan","VXLAN":{"VNI":-1}}`, "in Backend.VXLAN"},
		{`{"Fallback":"vxlan","Port":0}`, "Backend.Port is 0"},
		{`{"Fallback":"vxlan","SourcePorts":16}`, ""},
		{`{"Fallback":"vxlan","SourcePorts":99}`, "Backend.SourcePorts is 99"},
		{`{"Port":8465,"SourcePorts":8}`, ""},
		{`{"Fallback":"vxlan","Port":8465,"SourcePorts":7}`, ""},
		{`{"Fallback":"vxlan","Port":8465,"SourcePorts":8}`, "UDP port 8472 is to be that of udp and that of VXLAN too"},
		{`{"Fallback":"vxlan","SourcePorts":4,"VXLAN":{"Port":8288}}`, "UDP port 8288 is to be that of udp and that of VXLAN too"},
		{`{"Fallback":"vxlan","SourcePorts":4,"VXLAN":{"Port":8289}}`, ""},
		{`{"Fallback":"vxlan","Port":8472}`, "UDP port"},
		{`{"Fallback":"vxlan","VXLAN":{"Port":8285}}`, "UDP port"},
		{`{"Fallback":"vxlan","Port":8472,"VXLAN":{"Port":4789}}`, ""},
		{`{"Port":8472}`, ""},
	} {
		err := CheckSettings(json.RawMessage(c.backend), false)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.backend, err, c.want)
		}
	}
}

// Without a lease nothing is carried, either way; with it everything is again.
func TestSetOwn(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	kerneltest.Check(t, a.SetOwn(subnet.Lease{}))
	a.SetPeers(a.Peers())
	if got := peerRoutes(t, a, b); got != "" {
		t.Errorf("routes without a lease: %s", got)
	}
	kerneltest.Check(t, a.SetOwn(a.Lease))
	awaitPath(t, a, b, "udp")
	kerneltest.Exchange(t, a, b)
}

// Where the VTEP cannot be had, udp is not the worse for it: also when the lease
// was renewed.
func TestNoVTEP(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	kerneltest.Check(t, a.Close())
	kerneltest.Check(t, b.Close()) // what it saw of a's end would hold it back
	a.IP(t, "link", "del", "flannel.1")
	a.IP(t, "link", "add", "flannel.1", "type", "bridge")
	a.Start()
	b.Start()
	if log := a.Log.String(); !strings.Contains(log, "the fallback is not there") {
		t.Fatalf("log:\n%s", log)
	}
	kerneltest.Check(t, a.SetOwn(a.Lease))
	a.SetPeers(a.Peers())
	b.SetPeers(b.Peers())
	awaitPath(t, a, b, "udp")
	awaitPath(t, b, a, "udp")
	kerneltest.Exchange(t, a, b)
	if problems := a.Status().Problems; len(problems) == 0 {
		t.Error("the status tells of no problem")
	}
	a.IP(t, "link", "del", "flannel.1")
}

// Another subnet, by which every route has another source: the kernel takes the
// routes to the VTEP although those to the TUN cover their next hops.
func TestRenumber(t *testing.T) {
	l := newLab(t, 2, true)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	next := a.Lease
	next.Subnet = subnet.Subnet{IPv4: netip.MustParsePrefix("10.5.99.0/24"), IPv6: netip.MustParsePrefix("fd00:5:63::/64")}
	kerneltest.Check(t, a.SetOwn(next))
	if s := a.Status(); len(s.Problems) != 0 {
		t.Errorf("problems: %q", s.Problems)
	}
	for _, dst := range []string{"10.5.2.0/24", "fd00:5:2::/64"} {
		family, src := "-4", "10.5.99.0"
		if strings.Contains(dst, ":") {
			family, src = "-6", "fd00:5:63::"
		}
		routes := a.IP(t, family, "route", "show", dst)
		if len(routes) != 2 || !strings.Contains(routes[0], "dev flannel0") || !strings.Contains(routes[1], "dev flannel") ||
			!strings.Contains(routes[0], "src "+src) || !strings.Contains(routes[1], "src "+src) {
			t.Errorf("routes: %q", routes)
		}
	}
}

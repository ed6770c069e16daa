package control

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/tunnel"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// readyStatus is a dual-stack udp node behind NAT with two peers.
func readyStatus() Status {
	return Status{
		Version: "v0.1.0", Started: now.Add(-3*time.Hour - 12*time.Minute), PID: 812, Ready: true,
		Node:    Node{ID: "3f8e1c52-9a40-4d0e-a6f1-0d2f6f6a1b7c", Hostname: "host-a"},
		Network: Network{IPv4: netip.MustParsePrefix("10.5.0.0/16"), IPv6: netip.MustParsePrefix("fd00:5::/48")},
		Lease: Lease{Subnet: netip.MustParsePrefix("10.5.34.0/24"), SubnetV6: netip.MustParsePrefix("fd00:5:0:22::/64"),
			Revision: 1041, Expires: now.Add(23*time.Hour + 59*time.Minute), Held: true},
		Underlay: Underlay{Interface: "eth0", MTU: 1500, IPv4: netip.MustParseAddr("192.0.2.10"), IPv6: netip.MustParseAddr("2001:db8::10"),
			PublicIPv4: netip.MustParseAddr("198.51.100.7"), PublicIPv6: netip.MustParseAddr("2001:db8::10")},
		Etcd:       Etcd{Endpoints: []string{"https://10.0.0.2:2379", "https://10.0.0.3:2379"}, Connected: true, LastContact: now.Add(-time.Second)},
		Firewall:   Firewall{Mode: "nftables", Why: "the network config asks for it"},
		Containers: &Containers{Bridge: "docker0", Count: 3},
		Backend: &tunnel.Status{
			Type: "udp", Device: "flannel0", MTU: 1472,
			Capabilities: []tunnel.Capability{
				{Name: "tun-tso", On: true},
				{Name: "udp-gso", On: true, Why: "probed"},
				{Name: "tun-uso", Why: "the kernel refuses it: invalid argument"},
			},
			Peers: []tunnel.PeerStatus{
				{Subnet: "10.5.3.0/24", SubnetV6: "fd00:5:0:3::/64", NodeID: "a40c77d1-0000-4000-8000-000000000001", Endpoint: "192.0.2.11:8285",
					Path: "udp", PathMTU: 1472, TxPackets: 1200000, TxBytes: 1 << 30, RxPackets: 80, RxBytes: 4200, SuperpacketsByKernel: true},
				{Subnet: "10.5.200.0/24", Endpoint: "192.0.2.12:8285", Path: "udp", Notes: []string{"flannel: IPv4 only", "no GSO: input/output error"}},
			},
			Skipped: []tunnel.SkippedPeer{{Subnet: "10.5.77.0/24", Why: "backend type vxlan"}},
			Drops:   map[string]uint64{"unknown sender": 3, "inner source outside the peer's subnet": 17, "truncated": 0},

			ByKernel: &tunnel.Carried{TxPackets: 900, TxBytes: 51200, RxPackets: 80, RxBytes: 4200, TxSuperpackets: 3},
		},
	}
}

// brokenStatus is a node with all that can go wrong at once.
func brokenStatus() Status {
	s := readyStatus()
	s.Ready = false
	s.NotReady = []string{"the subnet 10.5.34.0/24 is held by host-b (192.0.2.99)", "a reason\nin two lines with \x1b[31mred"}
	s.Lease.Held = false
	s.Lease.Problem = "held by host-b (192.0.2.99), node ID b7"
	s.Network.Problem = "SubnetLen 40: must be at most 30"
	s.Etcd = Etcd{Endpoints: []string{"http://127.0.0.1:2379"}, Embedded: true, LastContact: now.Add(-90 * time.Second), Error: "connection refused"}
	s.Firewall = Firewall{Mode: "iptables", Problems: []string{"iptables: not found"}, Answers: []string{"iptables: FORWARD drops"}}
	s.Underlay.IPv6, s.Underlay.PublicIPv4 = netip.Addr{}, s.Underlay.IPv4
	s.Backend.Peers = s.Backend.Peers[:1]
	s.Backend.Capabilities, s.Backend.Skipped, s.Backend.Drops, s.Backend.ByKernel = nil, nil, nil, nil
	s.Containers = &Containers{Bridge: "docker0", Count: 3, Larger: 2}
	s.Backend.Problems = []string{"link flannel0: the link does not exist now"}
	s.BadEntries = []BadEntry{{Key: "/coreos.com/network/subnets/10.5.1.0-24", Revision: 7, Error: "PublicIP \"x\": not an address"}}
	return s
}

// startingStatus is a daemon that waits for etcd.
func startingStatus() Status {
	return Status{
		Version: "commit 0d2a87012345", Started: now.Add(-5 * time.Second), PID: 7,
		NotReady: []string{"waiting for etcd"},
		Node:     Node{Hostname: "host-a"},
		Etcd:     Etcd{Endpoints: []string{"http://127.0.0.1:2379"}, Error: "connection refused"},
	}
}

// The golden files are made anew by: go test ./daemon/control -update
func TestWriteText(t *testing.T) {
	expired := readyStatus()
	expired.Lease.Expires = now.Add(-72 * time.Hour)
	expired.Backend.Peers, expired.Backend.Capabilities = nil, nil
	reserved := readyStatus()
	reserved.Lease.Expires, reserved.Lease.Reservation = time.Time{}, true
	for name, s := range map[string]Status{
		"ready": readyStatus(), "broken": brokenStatus(), "starting": startingStatus(), "expired": expired, "reserved": reserved,
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := s.WriteText(&b, now); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("differs from %s (-want +got):\n%s", path, d)
	}
}

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": -time.Second, "59s": 59999 * time.Millisecond, "1m0s": time.Minute, "59m59s": time.Hour - time.Second,
		"1h0m": time.Hour, "47h59m": 48*time.Hour - time.Minute, "2d0h": 48 * time.Hour, "10d3h": 243 * time.Hour,
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %s, want %s", d, got, want)
		}
	}
}

// The kernel's own paths have no counters by peer, which is not 0 bytes.
func TestPeersOfTheKernel(t *testing.T) {
	var b strings.Builder
	writePeers(&b, []tunnel.PeerStatus{
		{Subnet: "10.5.3.0/24", Endpoint: "192.0.2.11:8472", Path: "vxlan"},
		{Subnet: "10.5.4.0/24", Endpoint: "192.0.2.12", Path: "udp"},
		{Subnet: "10.5.5.0/24", Endpoint: "192.0.2.13:8472", Path: "vxlan", TxPackets: 3, TxBytes: 300, Notes: []string{"udp until a moment ago"}},
	})
	want := `
PEER SUBNET  NODE  ENDPOINT         PATH   MTU  SENT   RECEIVED  NOTES
10.5.3.0/24  -     192.0.2.11:8472  vxlan  -    -      -
10.5.4.0/24  -     192.0.2.12       udp    -    0 B    0 B
10.5.5.0/24  -     192.0.2.13:8472  vxlan  -    300 B  0 B       udp until a moment ago
(-: carried by the kernel, which counts by device and not by peer: ` + "`ip -s link`" + `)
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

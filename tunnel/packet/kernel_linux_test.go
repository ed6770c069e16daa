package packet

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// forwarder makes a namespace that forwards from one TUN, with offloads, to
// another, without: what goes in as superpackets comes out cut up by the
// kernel, with complete checksums.
func forwarder(t *testing.T) (in, out *tun) {
	t.Helper()
	ns := labtest.Namespace(t, "packet")
	in = openTUN(t, ns, "in0", offloads, "10.77.0.1/24", "fd77::1/64")
	out = openTUN(t, ns, "out0", 0, "10.78.0.1/24", "fd78::1/64")
	for key, value := range map[string]string{
		"net/ipv4/ip_forward":          "1",
		"net/ipv6/conf/all/forwarding": "1",
		"net/ipv4/conf/all/rp_filter":  "0",
	} {
		if err := ns.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	return in, out
}

// forwarded reads packets that came through, until there are n; what the
// kernel sends of its own (ICMPv6) does not count.
func forwarded(t *testing.T, d *tun, n int) [][]byte {
	t.Helper()
	var pkts [][]byte
	d.f.SetReadDeadline(time.Now().Add(time.Minute))
	for len(pkts) < n {
		h, pkt, err := d.read()
		if err != nil {
			t.Fatalf("%d packets came through, want %d: %v", len(pkts), n, err)
		}
		if mustParse(t, pkt).Protocol == ProtoICMPv6 {
			continue
		}
		if h != (VnetHdr{}) {
			t.Fatalf("vnet header %+v from a TUN without offloads", h)
		}
		pkts = append(pkts, pkt)
	}
	return pkts
}

// routed is a packet on its way between the forwarder's networks.
func routed(s spec, ttl uint8) spec {
	s.ttl = ttl
	if s.src != "" && netip.MustParseAddr(s.src).Is6() {
		s.src, s.dst = "fd77::2", "fd78::2"
	} else {
		s.src, s.dst = "10.77.0.2", "10.78.0.2"
	}
	return s
}

// The kernel takes our superpackets, and its own GSO cuts them into the very
// packets we made them of.
func TestKernelCutsSuperpacketsIntoTheSamePackets(t *testing.T) {
	in, out := forwarder(t)
	v6 := "fd00::1"
	cases := map[string]struct {
		spec     spec
		mss, run int // run: packets of the longest run that must come about
	}{
		"TCP4, timestamps, PSH": {spec{tcpOptions: timestamps, df: true, id: 0xfff0, flags: tcpACK | tcpPSH, payload: bytesOf(62001)}, 1400, 45},
		"TCP4, FIN, ECE, CE":    {spec{flags: tcpACK | tcpFIN | 0x40, tos: CE, seq: 0xffffff00, payload: bytesOf(9999)}, 1111, 9},
		"TCP4, two":             {spec{payload: bytesOf(101)}, 100, 2},
		"TCP4, tiny":            {spec{payload: bytesOf(128)}, 1, 128},
		"TCP6, timestamps, PSH": {spec{src: v6, tcpOptions: timestamps, flags: tcpACK | tcpPSH, tos: 0xb9, flowLabel: 0x12345, payload: bytesOf(62001)}, 1400, 45},
		"UDP4":                  {spec{udp: true, df: true, id: 9, payload: bytesOf(40*1372 + 5)}, 1372, 41},
		"UDP4, 64 of 1 byte":    {spec{udp: true, payload: bytesOf(64)}, 1, 64},
		"UDP6":                  {spec{src: v6, udp: true, payload: bytesOf(20*1232 + 1)}, 1232, 21},
		"UDP4, two, zeros":      {spec{udp: true, payload: make([]byte, 150)}, 100, 2},
	}
	c := coalescer()
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			x := cases[name]
			c.Reset()
			addAll(t, c, slowSegments(routed(x.spec, 64), x.mss)...)
			var r Run
			longest := 0
			for c.Next(&r) {
				if err := in.write(&r); err != nil {
					t.Fatalf("write a run of %d packets: %v", r.Packets, err)
				}
				longest = max(longest, r.Packets)
			}
			if longest < x.run {
				t.Errorf("the longest run had %d packets, want %d", longest, x.run)
			}
			want := slowSegments(routed(x.spec, 63), x.mss)
			comparePackets(t, forwarded(t, out, len(want)), want)
		})
	}
}

// The same of every kind of superpacket, when some of its packets were lost,
// damaged, repeated or swapped on the way: the kernel's packets are those that
// arrived, in that order.
func TestKernelCutsWhatArrived(t *testing.T) {
	in, out := forwarder(t)
	rnd := rand.New(rand.NewPCG(7, 8))
	c := coalescer()
	for _, name := range slices.Sorted(maps.Keys(superpackets)) {
		x := superpackets[name]
		if len(x.spec.payload) > maxDisturbed*x.mss {
			continue // more than the queue of a TUN holds
		}
		t.Run(name, func(t *testing.T) {
			for range 4 {
				script := make([]byte, maxDisturbed)
				for i := range script {
					script[i] = byte(rnd.IntN(3 * disturbances))
				}
				c.Reset()
				addAll(t, c, disturb(slowSegments(routed(x.spec, 64), x.mss), script)...)
				var r Run
				for c.Next(&r) {
					if err := in.write(&r); err != nil {
						t.Fatalf("write a run of %d packets: %v", r.Packets, err)
					}
				}
				want := disturb(slowSegments(routed(x.spec, 63), x.mss), script)
				comparePackets(t, normalAll(forwarded(t, out, len(want))), normalAll(want))
			}
		})
	}
}

// normalAll has packets as normal does: a datagram that came twice, with one ID,
// is cut into two of different IDs.
func normalAll(pkts [][]byte) (out [][]byte) {
	for _, p := range pkts {
		out = append(out, []byte(normal(p)))
	}
	return out
}

// Single packets go through as they are, those with a wrong checksum too: a
// router does not judge.
func TestKernelForwardsSinglePackets(t *testing.T) {
	in, out := forwarder(t)
	at := func(ttl uint8) [][]byte {
		s := spec{src: "10.77.0.2", dst: "10.78.0.2", ttl: ttl, payload: bytesOf(100)}
		wrong := s.build()
		wrong[50] ^= 1
		s.flags = tcpACK | tcpCWR
		u := s
		u.udp, u.noChecksum = true, true
		return [][]byte{s.build(), wrong, u.build()}
	}
	c := coalescer()
	addAll(t, c, at(64)...)
	var r Run
	for c.Next(&r) {
		if err := in.write(&r); err != nil {
			t.Fatal(err)
		}
	}
	comparePackets(t, forwarded(t, out, 3), at(63))
}

// The kernel takes superpackets that another kernel has sent, and cuts them.
func TestKernelCutsTCPSuperpackets(t *testing.T) {
	in, out := forwarder(t)
	const mtu = 1452
	for name, s := range map[string]spec{
		"two":                   {payload: bytesOf(mtu - 40 + 1)},
		"many, timestamps, PSH": {tcpOptions: timestamps, df: true, id: 0xfff0, flags: tcpACK | tcpPSH, payload: bytesOf(62001)},
		"FIN, ECE, CE":          {flags: tcpACK | tcpFIN | 0x40, tos: CE, seq: 0xffffff00, payload: bytesOf(9999)},
	} {
		t.Run(name, func(t *testing.T) {
			pkt := whole(routed(s, 64))
			info := mustParse(t, pkt)
			super, ok := TCPSuperpacket(pkt, &info, mtu)
			if !ok {
				t.Fatal("none")
			}
			hdr := make([]byte, VnetHdrLen)
			super.Hdr.Encode(hdr)
			if err := in.write(&Run{Pieces: [][]byte{hdr, pkt}}); err != nil {
				t.Fatal(err)
			}
			want := slowSegments(routed(s, 63), mtu-40-len(s.tcpOptions))
			if len(want) != super.Packets {
				t.Errorf("%d packets announced, want %d", super.Packets, len(want))
			}
			comparePackets(t, forwarded(t, out, len(want)), want)
		})
	}
}

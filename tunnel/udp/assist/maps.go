package assist

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// struct peer, the values of the map "peers" by inner prefix. All its numbers
// are in host byte order, addresses in network byte order.
//
//	struct { u32 public, slot, source_ports; }
const (
	peerPublic      = 0 // 0: user space's
	peerSlot        = 4
	peerSourcePorts = 8 // not 0: it takes datagrams from further source ports
)

// struct slot, the values of the array "slots": the limit and what is sent on
// one cache line, what is received, by another CPU maybe, on the next.
//
//	struct {
//		u32 limit, superpackets;
//		u64 tx_packets, tx_bytes, tx_superpackets;
//		u64 rx_packets, rx_bytes __aligned(64);
//	}
const (
	slotLimit          = 0
	slotSuperpackets   = 4 // not 0: superpackets arrive there whole
	slotTxPackets      = 8
	slotTxBytes        = 16
	slotTxSuperpackets = 24
	slotRxPackets      = 64
	slotRxBytes        = 72
	slotLen            = 128
)

// struct node, the only value of the array "node".
//
//	struct { u64 own, drops; u32 detour_port; }
const (
	nodeOwn        = 0 // the subnet's address below, its mask above; see ownSubnet
	nodeDrops      = 8
	nodeDetourPort = 16 // of detourDevice, in network byte order; 0: there is none
	nodeLen        = 24
)

// places is how many peers and slots there is room for: during Set there are
// those that were and those that will be.
const places = 2 * MaxPeers

// shared is what the programs and this process share.
type shared struct {
	peers, slots, node *ebpf.Map
	flows, detours     *ebpf.Map   // see flow.go
	floods             *ebpf.Map   // see flood.go
	rings              []*ebpf.Map // of seats; see toring.go

	// mark is what tells packets of this process's and of its programs from all
	// others: a trial where it leaves by the TUN, and what arrives by the detour.
	// Neither datagrams nor what comes from another namespace have marks.
	mark uint32
	vni  uint32 // of the detour, 24 bits: also a secret, for what is joined there has one VNI
}

// foreignMarks are bits of marks by which the rules of kube-proxy and of kubelet have
// packets dropped or masqueraded (0xc000), and which those of Calico's policies, beside
// flannel in Canal, clear on all packets that come in (0xf0000).
const foreignMarks = 0xfc000

// newMark makes the mark of 32 random bits. It is not 0, and its lowest bit is.
func newMark(random uint32) uint32 { return (random | 2) &^ (foreignMarks | 1) }

func newShared(cfg Config) (_ *shared, err error) {
	m := new(shared)
	var random [8]byte
	rand.Read(random[:]) // never fails
	m.mark = newMark(binary.NativeEndian.Uint32(random[:]))
	m.vni = binary.NativeEndian.Uint32(random[4:]) >> 8
	for _, spec := range []struct {
		at *(*ebpf.Map)
		ebpf.MapSpec
	}{
		{&m.peers, ebpf.MapSpec{
			Name: "weft_peers", Type: ebpf.LPMTrie, Flags: unix.BPF_F_NO_PREALLOC,
			KeySize: 8, ValueSize: 12, MaxEntries: places,
		}},
		{&m.slots, ebpf.MapSpec{
			Name: "weft_slots", Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE,
			KeySize: 4, ValueSize: slotLen, MaxEntries: places,
		}},
		{&m.node, ebpf.MapSpec{
			Name: "weft_node", Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE,
			KeySize: 4, ValueSize: nodeLen, MaxEntries: 1,
		}},
		// One value, for only that can be addressed without looking it up.
		{&m.flows, ebpf.MapSpec{
			Name: "weft_flows", Type: ebpf.Array,
			KeySize: 4, ValueSize: 8 * flowPlaces, MaxEntries: 1,
		}},
		{&m.detours, ebpf.MapSpec{
			Name: "weft_detours", Type: ebpf.Array,
			KeySize: 4, ValueSize: 8 * flowPlaces, MaxEntries: 1,
		}},
		{&m.floods, ebpf.MapSpec{
			Name: "weft_floods", Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE,
			KeySize: 4, ValueSize: floodsLen, MaxEntries: 1,
		}},
	} {
		if *spec.at, err = ebpf.NewMap(&spec.MapSpec); err != nil {
			m.close()
			return nil, fmt.Errorf("make the eBPF map %s: %w", spec.Name, err)
		}
	}
	for range cfg.Floods {
		ring, err := newRing()
		if err != nil {
			m.close()
			return nil, fmt.Errorf("make the eBPF ring buffer %s: %w", ringName, err)
		}
		m.rings = append(m.rings, ring)
	}
	return m, nil
}

// trialMark is the mark of a trial that has arrived.
func (m *shared) trialMark() uint32 { return m.mark | 1 }

// close closes what there is.
func (m *shared) close() error {
	var errs []error
	for _, one := range append(m.rings, m.peers, m.slots, m.node, m.flows, m.detours, m.floods) {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

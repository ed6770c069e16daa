package assist

import (
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
//	struct { u64 own, drops; }
const (
	nodeOwn   = 0 // the subnet's address below, its mask above; see ownSubnet
	nodeDrops = 8
	nodeLen   = 16
)

// places is how many peers and slots there is room for: during Set there are
// those that were and those that will be.
const places = 2 * MaxPeers

// shared are the maps that the programs and this process share.
type shared struct {
	peers, slots, node, flows *ebpf.Map
}

func newShared() (_ *shared, err error) {
	m := new(shared)
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
	} {
		if *spec.at, err = ebpf.NewMap(&spec.MapSpec); err != nil {
			m.close()
			return nil, fmt.Errorf("make the eBPF map %s: %w", spec.Name, err)
		}
	}
	return m, nil
}

// close closes what there is.
func (m *shared) close() error {
	return errors.Join(m.peers.Close(), m.slots.Close(), m.node.Close(), m.flows.Close())
}

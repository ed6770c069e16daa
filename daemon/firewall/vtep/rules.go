package vtep

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// maxDeviceName is IFNAMSIZ without the zero at the end.
const maxDeviceName = unix.IFNAMSIZ - 1

// reg is the one register that the expressions pass values in.
const reg = 1

// family tells where one IP header keeps the source, and which set holds the
// peers.
type family struct {
	nfproto byte
	is4     bool
	src     uint32 // offset
	addrLen uint32
	set     string
	key     nftables.SetDatatype
}

var families = []family{
	{unix.NFPROTO_IPV4, true, 12, 4, setPeers4, nftables.TypeIPAddr},
	{unix.NFPROTO_IPV6, false, 8, 16, setPeers6, nftables.TypeIP6Addr},
}

// build replaces the table as a whole. Adding one that is there does nothing,
// deleting one that is not there fails: so add, delete, and add it empty.
func build(conn *nftables.Conn, c Config) {
	table := ownTable()
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)

	// On input, where VXLAN of other people that is only forwarded does not come
	// by. Fragments of IPv4 are assembled before it. Those of IPv6 may be after
	// it, but the first has the UDP header, or else Linux 5.11 and later take none
	// (ipv6frag_thdr_truncated in net/ipv6/reassembly.c).
	port := conn.AddChain(&nftables.Chain{
		Table: table, Name: chainPort, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	// Before connection tracking, which would be made to remember forgeries.
	source := conn.AddChain(&nftables.Chain{
		Table: table, Name: chainSource, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	for _, f := range families {
		set := &nftables.Set{Table: table, Name: f.set, KeyType: f.key}
		// It fails for anonymous sets only.
		_ = conn.AddSet(set, nil)
		addPeers(conn, set, f.elements(c.Peers))
		conn.AddRule(&nftables.Rule{Table: table, Chain: port, Exprs: f.dropStrangers(c.Port, set)})
		for _, device := range c.Devices {
			for _, exprs := range f.dropForged(device, c.Networks, c.Subnets) {
				conn.AddRule(&nftables.Rule{Table: table, Chain: source, Exprs: exprs})
			}
		}
	}
}

// dropStrangers: udp dport PORT ip saddr != @peers4 counter drop
func (f family) dropStrangers(port uint16, set *nftables.Set) []expr.Any {
	return slices.Concat(f.match(), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.BigEndian.PutUint16(port)},
		f.loadSource(),
		&expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID, Invert: true},
	}, drop())
}

// dropForged: iifname DEVICE ip saddr SUBNET counter drop, and the same for
// ip saddr != NETWORK. Without a network of this family everything is dropped.
func (f family) dropForged(device string, networks, subnets []netip.Prefix) (rules [][]expr.Any) {
	var name [unix.IFNAMSIZ]byte // the zero at the end makes it exact
	copy(name[:maxDeviceName], device)
	from := slices.Concat(f.match(), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: name[:]},
	})
	for _, p := range subnets {
		if p.Addr().Is4() == f.is4 {
			rules = append(rules, slices.Concat(from, f.source(expr.CmpOpEq, p), drop()))
		}
	}
	i := slices.IndexFunc(networks, func(p netip.Prefix) bool { return p.Addr().Is4() == f.is4 })
	if i < 0 {
		return append(rules, slices.Concat(from, drop()))
	}
	return append(rules, slices.Concat(from, f.source(expr.CmpOpNeq, networks[i]), drop()))
}

func (f family) match() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{f.nfproto}},
	}
}

func (f family) loadSource() expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.addrLen}
}

// source compares the source's network with p.
func (f family) source(op expr.CmpOp, p netip.Prefix) []expr.Any {
	return []expr.Any{
		f.loadSource(),
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: f.addrLen,
			Mask: net.CIDRMask(p.Bits(), int(f.addrLen)*8), Xor: make([]byte, f.addrLen),
		},
		&expr.Cmp{Op: op, Register: reg, Data: p.Addr().AsSlice()},
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

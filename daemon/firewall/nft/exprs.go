package nft

import (
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// reg is the one register that the expressions pass values in.
const reg = 1

// marked is the user data of every rule that weft makes; nft prints it as
// `comment "weft"`, iptables-nft as `-m comment --comment weft`.
var marked = userdata.AppendString(nil, userdata.TypeComment, rule.Comment)

// header tells where one family's IP header keeps what rules look at.
type header struct {
	nfproto  byte
	src, dst uint32 // offsets of the addresses
	addrLen  uint32
}

var (
	header4 = header{nfproto: unix.NFPROTO_IPV4, src: 12, dst: 16, addrLen: 4}
	header6 = header{nfproto: unix.NFPROTO_IPV6, src: 8, dst: 24, addrLen: 16}
)

// ownExprs renders a rule for weft's own table, which sees both families.
func ownExprs(h header, r rule.Rule) []expr.Any {
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{h.nfproto}},
	}
	exprs = append(exprs, matches(h, r)...)
	if r.Action == rule.ClampMSS {
		exprs = append(exprs, matchSYN()...)
	}
	exprs = append(exprs, &expr.Counter{})
	return append(exprs, act(h, r)...)
}

// guestExprs renders a rule that accepts or returns the way iptables-nft would
// write it, so that it stays readable for that tool.
func guestExprs(h header, r rule.Rule) []expr.Any {
	return append(append(matches(h, r), &expr.Counter{}), act(h, r)...)
}

// jumpExprs is the rule that leads to a chain, as iptables-nft would write it.
func jumpExprs(chain string) []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func matches(h header, r rule.Rule) []expr.Any {
	var exprs []expr.Any
	exprs = append(exprs, matchAddr(h.src, h.addrLen, r.Src)...)
	exprs = append(exprs, matchAddr(h.dst, h.addrLen, r.Dst)...)
	exprs = append(exprs, matchDevice(expr.MetaKeyIIFNAME, r.In)...)
	exprs = append(exprs, matchDevice(expr.MetaKeyOIFNAME, r.Out)...)
	return exprs
}

// matchAddr compares the whole address under a mask. A load of only the
// prefix's bytes would be shorter, but iptables-nft before 1.8.6 misreads it.
func matchAddr(offset, addrLen uint32, p netip.Prefix) []expr.Any {
	if !p.IsValid() {
		return nil
	}
	exprs := []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: addrLen}}
	if p.Bits() < p.Addr().BitLen() {
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: addrLen,
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
			Xor:  make([]byte, addrLen),
		})
	}
	return append(exprs, &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: p.Addr().AsSlice()})
}

func matchDevice(key expr.MetaKey, name string) []expr.Any {
	if name == "" {
		return nil
	}
	var padded [unix.IFNAMSIZ]byte // the zero at the end makes it exact
	copy(padded[:unix.IFNAMSIZ-1], name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: padded[:]},
	}
}

// matchSYN matches TCP segments with SYN and without RST: the first two of a
// connection.
func matchSYN() []expr.Any {
	const flagsOffset, rst, syn = 13, 0x04, 0x02 // RFC 9293, section 3.1
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: flagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{syn}},
	}
}

func act(h header, r rule.Rule) []expr.Any {
	snat := &expr.NAT{
		Type:       expr.NATTypeSourceNAT,
		Family:     uint32(h.nfproto),
		RegAddrMin: reg, RegAddrMax: reg,
		FullyRandom: r.RandomFully,
	}
	switch r.Action {
	case rule.Return:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	case rule.KeepSource:
		// An accept here would only end this chain: the kernel goes on to the
		// NAT chains of other tables until one of them has set up a mapping
		// (nf_nat_inet_fn in net/netfilter/nf_nat_core.c). So set up one, from
		// the source address to itself.
		return []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: h.src, Len: h.addrLen},
			snat,
		}
	case rule.Masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: r.RandomFully}}
	case rule.SNAT:
		return []expr.Any{&expr.Immediate{Register: reg, Data: r.To.AsSlice()}, snat}
	case rule.ClampMSS:
		// "rt mtu" takes the smaller MTU of the route ahead and the route back
		// (get_tcpmss in net/netfilter/nft_rt.c), and the write never raises
		// the option, so the same rule is right for both directions.
		const optMaxSeg = 2 // RFC 9293, section 3.2
		return []expr.Any{
			&expr.Rt{Register: reg, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 2, Size: 2},
			&expr.Exthdr{SourceRegister: reg, Op: expr.ExthdrOpTcpopt, Type: optMaxSeg, Offset: 2, Len: 2},
		}
	default:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	}
}

package subnet

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// uint128 is an address as a number, wide enough for both families. Arithmetic
// wraps around.
type uint128 struct{ hi, lo uint64 }

var one128 = uint128{lo: 1}

func valueOf(a netip.Addr) uint128 {
	if a.Is4() {
		b := a.As4()
		return uint128{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addrOf is the inverse of valueOf; like says which family.
func addrOf(u uint128, like netip.Addr) netip.Addr {
	if like.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(u.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], u.hi)
	binary.BigEndian.PutUint64(b[8:], u.lo)
	return netip.AddrFrom16(b)
}

// lastAddr is the highest address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	size := one128.shl(p.Addr().BitLen() - p.Bits())
	return addrOf(valueOf(p.Masked().Addr()).add(size).sub(one128), p.Addr())
}

func (u uint128) add(v uint128) uint128 {
	lo, carry := bits.Add64(u.lo, v.lo, 0)
	hi, _ := bits.Add64(u.hi, v.hi, carry)
	return uint128{hi, lo}
}

func (u uint128) sub(v uint128) uint128 {
	lo, borrow := bits.Sub64(u.lo, v.lo, 0)
	hi, _ := bits.Sub64(u.hi, v.hi, borrow)
	return uint128{hi, lo}
}

func (u uint128) shl(n int) uint128 {
	if n >= 64 {
		return uint128{hi: u.lo << (n - 64)}
	}
	return uint128{hi: u.hi<<n | u.lo>>(64-n), lo: u.lo << n}
}

func (u uint128) shr(n int) uint128 {
	if n >= 64 {
		return uint128{lo: u.hi >> (n - 64)}
	}
	return uint128{hi: u.hi >> n, lo: u.lo>>n | u.hi<<(64-n)}
}

// clamp is u as a uint64, or the highest uint64.
func (u uint128) clamp() uint64 {
	if u.hi > 0 {
		return math.MaxUint64
	}
	return u.lo
}

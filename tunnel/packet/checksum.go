package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum returns the one's complement sum (RFC 1071) of the 16-bit words of b and
// of initial, which may be the sum of an even number of preceding bytes. An
// odd last byte counts as a word with a zero behind it. The Internet checksum
// is the complement, ^Sum(b, 0); data that contains its checksum sums up to
// 0xffff.
func Sum(b []byte, initial uint16) uint16 {
	return sumGeneric(b, initial)
}

// sumGeneric is Sum in plain Go. The sum is taken in the machine's byte order
// and swapped at the end, which gives the same (RFC 1071 section 2B).
func sumGeneric(b []byte, initial uint16) uint16 {
	var sum, carry uint64
	for len(b) >= 64 {
		c := b[:64]
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[0:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[8:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[16:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[24:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[32:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[40:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[48:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(c[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(tail[:]), carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	sum += carry
	return fold(uint64(networkOrder(foldNative(sum))) + uint64(initial))
}

// foldNative folds a sum of 64-bit words to 16 bits.
func foldNative(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	return fold(sum)
}

// fold folds a sum of 16-bit words to 16 bits.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

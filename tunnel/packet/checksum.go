package packet

import (
	"encoding/binary"
	"math/bits"
)

// vectorMin is the length in bytes from which vector code is used: on amd64 it
// is no slower at any length from here on, and for the 8 to 40 bytes of
// addresses and headers plain Go is as fast.
const vectorMin = 64

// Sum returns the one's complement sum (RFC 1071) of the 16-bit words of b and
// of initial, which may be the sum of an even number of preceding bytes. An
// odd last byte counts as a word with a zero behind it. The Internet checksum
// is the complement, ^Sum(b, 0); data that contains its checksum sums up to
// 0xffff.
func Sum(b []byte, initial uint16) uint16 {
	if len(b) < vectorMin || !hasVector {
		return sumGeneric(b, initial)
	}
	// No overflow: these are words of 32 bits, far fewer than 2^32.
	return networkOrder(fold(sumVector(b) + uint64(networkOrder(initial))))
}

// sumGeneric is Sum in plain Go. The sum is taken in the machine's byte order
// and swapped at the end, which gives the same (RFC 1071 section 2B).
func sumGeneric(b []byte, initial uint16) uint16 {
	sum, carry := uint64(networkOrder(initial)), uint64(0)
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
	for len(b) >= 16 {
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b[8:]), carry)
		b = b[16:]
	}
	if len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail uint64 // of up to seven bytes: no overflow
	if len(b) >= 4 {
		tail += uint64(binary.NativeEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.NativeEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	sum, carry = bits.Add64(sum, tail, carry)
	sum += carry // no overflow: after a carry, sum is at most tail
	return networkOrder(fold(sum))
}

// fold folds a sum of 16-bit words to 16 bits: it adds the two halves, and the
// carry, twice. Added to itself with the halves swapped, a word has the sum of
// the halves in its upper half, and the lower half has just carried the same
// carry into it.
func fold(sum uint64) uint16 {
	sum += bits.RotateLeft64(sum, 32)
	half := uint32(sum >> 32)
	half += bits.RotateLeft32(half, 16)
	return uint16(half >> 16)
}

// networkOrder swaps the bytes of v where the machine's order is the other one.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

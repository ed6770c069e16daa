#include "textflag.h"

// tailMask, read from offset n on, keeps the last n of 16 bytes.
DATA tailMask<>+0x00(SB)/8, $0
DATA tailMask<>+0x08(SB)/8, $0
DATA tailMask<>+0x10(SB)/8, $-1
DATA tailMask<>+0x18(SB)/8, $-1
GLOBL tailMask<>(SB), RODATA|NOPTR, $32

// ACCUMULATE adds the lower two 32-bit words of v to the two 64-bit sums in lower, and
// the upper two to those in upper.
#define ACCUMULATE(v, lower, upper) \
	VUADDW  v.S2, lower.D2, lower.D2 \
	VUADDW2 v.S4, upper.D2, upper.D2

// func sumVector(b []byte) uint64
//
// R0: the next byte; R1: bytes left; R2: the odd last byte.
// V0 to V7: sums of 32-bit words, in eight streams because each addition takes
// two cycles or more and up to four start in one; V16 to V19: what was loaded.
// Loads need no alignment.
TEXT ·sumVector(SB), NOSPLIT, $0-32
	MOVD b_base+0(FP), R0
	MOVD b_len+8(FP), R1

	// An odd last byte is the lower half of a little-endian word. Without it
	// the rest is of whole words, as the load of the tail below needs.
	MOVD ZR, R2
	TBZ  $0, R1, even
	SUB  $1, R1
	MOVBU (R0)(R1), R2

even:
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	VEOR V4.B16, V4.B16, V4.B16
	VEOR V5.B16, V5.B16, V5.B16
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	SUBS $64, R1
	BLO  half

loop:
	VLD1.P 64(R0), [V16.S4, V17.S4, V18.S4, V19.S4]
	ACCUMULATE(V16, V0, V1)
	ACCUMULATE(V17, V2, V3)
	ACCUMULATE(V18, V4, V5)
	ACCUMULATE(V19, V6, V7)
	SUBS   $64, R1
	BHS    loop

half:
	// R1 is now 64 less than what is left: its lower bits are the same.
	TBZ    $5, R1, quarter
	VLD1.P 32(R0), [V16.S4, V17.S4]
	ACCUMULATE(V16, V0, V1)
	ACCUMULATE(V17, V2, V3)

quarter:
	TBZ    $4, R1, tail
	VLD1.P 16(R0), [V16.S4]
	ACCUMULATE(V16, V4, V5)

tail:
	// Up to 14 bytes are left. b's last 16 bytes are loaded, so as not to read
	// behind it, less those that were summed already. The number is even, so
	// each byte stays in the half of a 16-bit word it belongs to.
	ANDS $15, R1
	BEQ  reduce
	ADD  R1, R0
	SUB  $16, R0
	MOVD $tailMask<>(SB), R3
	ADD  R1, R3
	VLD1 (R0), [V16.B16]
	VLD1 (R3), [V17.B16]
	VAND V17.B16, V16.B16, V16.B16
	ACCUMULATE(V16, V6, V7)

reduce:
	VADD  V1.D2, V0.D2, V0.D2
	VADD  V3.D2, V2.D2, V2.D2
	VADD  V5.D2, V4.D2, V4.D2
	VADD  V7.D2, V6.D2, V6.D2
	VADD  V2.D2, V0.D2, V0.D2
	VADD  V6.D2, V4.D2, V4.D2
	VADD  V4.D2, V0.D2, V0.D2
	VADDP V0.D2, V0.D2, V0.D2
	VMOV  V0.D[0], R3
	ADD   R2, R3
	MOVD  R3, ret+24(FP)
	RET

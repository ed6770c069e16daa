#include "textflag.h"

// tailMask, read from offset n on, keeps the last n of 32 bytes.
DATA tailMask<>+0x00(SB)/8, $0
DATA tailMask<>+0x08(SB)/8, $0
DATA tailMask<>+0x10(SB)/8, $0
DATA tailMask<>+0x18(SB)/8, $0
DATA tailMask<>+0x20(SB)/8, $-1
DATA tailMask<>+0x28(SB)/8, $-1
DATA tailMask<>+0x30(SB)/8, $-1
DATA tailMask<>+0x38(SB)/8, $-1
GLOBL tailMask<>(SB), RODATA|NOPTR, $64

// ACCUMULATE adds the four 64-bit words of v to the four sums in all, and their upper
// halves to those in upper; v is spent. The sums of the lower halves, which
// would cost a fourth instruction, follow from these two at the end.
#define ACCUMULATE(v, all, upper) \
	VPADDQ v, all, all       \
	VPSRLQ $32, v, v         \
	VPADDQ v, upper, upper

// func sumVector(b []byte) uint64
//
// SI: the next byte; CX: bytes left; AX: the odd last byte.
// Y0, Y1: sums of whole 64-bit words, modulo 2^64, of two streams so that
// neither waits for the other; Y2, Y3: sums of their upper halves; Y4 to Y7:
// what was loaded. Loads need no alignment: one that crosses a cache line costs
// less than aligning first.
TEXT ·sumVector(SB), NOSPLIT, $0-32
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX

	// An odd last byte is the lower half of a little-endian word. Without it
	// the rest is of whole words, as the load of the tail below needs.
	XORL    AX, AX
	TESTQ   $1, CX
	JZ      even
	MOVBLZX -1(SI)(CX*1), AX
	DECQ    CX

even:
	VPXOR X0, X0, X0 // clears all of Y0
	VPXOR X1, X1, X1
	VPXOR X2, X2, X2
	VPXOR X3, X3, X3
	SUBQ  $128, CX
	JB    half

loop:
	VMOVDQU 0(SI), Y4
	VMOVDQU 32(SI), Y5
	VMOVDQU 64(SI), Y6
	VMOVDQU 96(SI), Y7
	ACCUMULATE(Y4, Y0, Y2)
	ACCUMULATE(Y5, Y1, Y3)
	ACCUMULATE(Y6, Y0, Y2)
	ACCUMULATE(Y7, Y1, Y3)
	ADDQ $128, SI
	SUBQ $128, CX
	JAE  loop

half:
	// CX is now 128 less than what is left: its lower bits are the same.
	TESTQ   $64, CX
	JZ      quarter
	VMOVDQU 0(SI), Y4
	VMOVDQU 32(SI), Y5
	ACCUMULATE(Y4, Y0, Y2)
	ACCUMULATE(Y5, Y1, Y3)
	ADDQ    $64, SI

quarter:
	TESTQ   $32, CX
	JZ      tail
	VMOVDQU (SI), Y4
	ACCUMULATE(Y4, Y0, Y2)
	ADDQ    $32, SI

tail:
	// Up to 30 bytes are left. b's last 32 bytes are loaded, so as not to read
	// behind it, less those that were summed already. The number is even, so
	// each byte stays in the half of a 16-bit word it belongs to.
	ANDQ    $31, CX
	JZ      reduce
	LEAQ    tailMask<>(SB), DX
	VMOVDQU -32(SI)(CX*1), Y4
	VPAND   (DX)(CX*1), Y4, Y4
	ACCUMULATE(Y4, Y1, Y3)

reduce:
	VPADDQ       Y1, Y0, Y0
	VPADDQ       Y3, Y2, Y2
	VEXTRACTI128 $1, Y0, X1
	VEXTRACTI128 $1, Y2, X3
	VZEROUPPER              // what follows uses 128 bits; SSE code may come after
	VPADDQ       X1, X0, X0
	VPADDQ       X3, X2, X2
	VPSRLDQ      $8, X0, X1
	VPSRLDQ      $8, X2, X3
	VPADDQ       X1, X0, X0
	VPADDQ       X3, X2, X2
	VMOVQ        X0, BX     // all = lower + 2^32 upper, modulo 2^64
	VMOVQ        X2, CX     // upper
	MOVQ         CX, DX
	SHLQ         $32, DX
	SUBQ         DX, BX     // lower, exact: it is less than 2^64
	ADDQ         CX, BX
	ADDQ         AX, BX
	MOVQ         BX, ret+24(FP)
	RET

//go:build !purego

#include "textflag.h"

// Bytes 13, 14, 15, 12 in each column: RotWord of the last.
DATA ·rotWord+0(SB)/8, $0x0c0f0e0d0c0f0e0d
DATA ·rotWord+8(SB)/8, $0x0c0f0e0d0c0f0e0d
GLOBL ·rotWord(SB), RODATA|NOPTR, $16

DATA ·roundConstant+0(SB)/8, $0x0000000100000001
DATA ·roundConstant+8(SB)/8, $0x0000000100000001
DATA ·roundConstant+16(SB)/8, $0x0000001b0000001b
DATA ·roundConstant+24(SB)/8, $0x0000001b0000001b
GLOBL ·roundConstant(SB), RODATA|NOPTR, $32

// 1 as the counter of a block, big-endian.
DATA ·one+0(SB)/8, $0
DATA ·one+8(SB)/8, $0x0100000000000000
GLOBL ·one(SB), RODATA|NOPTR, $16

DATA ·modulus+0(SB)/8, $0x87
DATA ·modulus+8(SB)/8, $0
GLOBL ·modulus(SB), RODATA|NOPTR, $16

DATA ·zeroes+0(SB)/8, $0
DATA ·zeroes+8(SB)/8, $0
GLOBL ·zeroes(SB), RODATA|NOPTR, $16

DATA ·ones+0(SB)/8, $0x0000000100000001
DATA ·ones+8(SB)/8, $0x0000000100000001
DATA ·ones+16(SB)/8, $0x0000000100000001
DATA ·ones+24(SB)/8, $0x0000000100000001
GLOBL ·ones(SB), RODATA|NOPTR, $32

DATA ·twos+0(SB)/8, $0x0000000200000002
DATA ·twos+8(SB)/8, $0x0000000200000002
DATA ·twos+16(SB)/8, $0x0000000200000002
DATA ·twos+24(SB)/8, $0x0000000200000002
GLOBL ·twos(SB), RODATA|NOPTR, $32

// Shifts that bring bits 30 and 31 to the top.
DATA ·productCounts+0(SB)/8, $0x0000000100000001
DATA ·productCounts+8(SB)/8, $0x0000000100000001
DATA ·productCounts+16(SB)/8, $0
DATA ·productCounts+24(SB)/8, $0
GLOBL ·productCounts(SB), RODATA|NOPTR, $32

// Shifts that bring bits 14 and 30 to the top.
DATA ·constrainCounts+0(SB)/8, $0x0000001100000011
DATA ·constrainCounts+8(SB)/8, $0x0000001100000011
DATA ·constrainCounts+16(SB)/8, $0x0000000100000001
DATA ·constrainCounts+24(SB)/8, $0x0000000100000001
GLOBL ·constrainCounts(SB), RODATA|NOPTR, $32

#define SCHEDULE(key, at) \
	VPSHUFB     X13, key, X8;   \
	VAESENCLAST X14, X8, X8;    \
	VPSLLDQ     $4, key, X9;    \
	VPXOR       X9, key, key;   \
	VPSLLDQ     $8, key, X9;    \
	VPXOR       X9, key, key;   \
	VPXOR       X8, key, key;   \
	VMOVDQU     key, at(DI)

#define SCHEDULE4(r) \
	SCHEDULE(X0, 0*176+16*r);  \
	SCHEDULE(X1, 1*176+16*r);  \
	SCHEDULE(X2, 2*176+16*r);  \
	SCHEDULE(X3, 3*176+16*r);  \
	VPSLLD $1, X14, X14

// func scheduleFour(round *[4][176]byte, keys, tweaks *[4][16]byte)
//
// Round keys of four keys. The tweaks go into the first of each, so that it
// whitens with both.
TEXT ·scheduleFour(SB), NOSPLIT, $0-24
	MOVQ round+0(FP), DI
	MOVQ keys+8(FP), SI
	MOVQ tweaks+16(FP), DX
	VMOVDQU ·rotWord(SB), X13
	VMOVDQU ·roundConstant(SB), X14
	VMOVDQU 0(SI), X0
	VMOVDQU 16(SI), X1
	VMOVDQU 32(SI), X2
	VMOVDQU 48(SI), X3
	VPXOR   0(DX), X0, X4
	VPXOR   16(DX), X1, X5
	VPXOR   32(DX), X2, X6
	VPXOR   48(DX), X3, X7
	VMOVDQU X4, 0*176(DI)
	VMOVDQU X5, 1*176(DI)
	VMOVDQU X6, 2*176(DI)
	VMOVDQU X7, 3*176(DI)
	SCHEDULE4(1)
	SCHEDULE4(2)
	SCHEDULE4(3)
	SCHEDULE4(4)
	SCHEDULE4(5)
	SCHEDULE4(6)
	SCHEDULE4(7)
	SCHEDULE4(8)
	VMOVDQU ·roundConstant+16(SB), X14
	SCHEDULE4(9)
	SCHEDULE4(10)
	RET

// func foldFour(sum, low, high *byte, parts *[4]*byte, n int)
//
// n counts 32 bytes.
TEXT ·foldFour(SB), NOSPLIT, $0-40
	MOVQ sum+0(FP), DI
	MOVQ low+8(FP), SI
	MOVQ high+16(FP), DX
	MOVQ parts+24(FP), AX
	MOVQ n+32(FP), CX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	XORQ BX, BX

fold:
	VMOVDQU (R11)(BX*1), Y3
	VMOVDQU (R10)(BX*1), Y2
	VPXOR   (R9)(BX*1), Y3, Y1
	VPXOR   (R8)(BX*1), Y1, Y0
	VPXOR   Y2, Y0, Y0
	VPXOR   Y3, Y2, Y2
	VPXOR   (SI)(BX*1), Y1, Y1
	VPXOR   (DX)(BX*1), Y2, Y2
	VMOVDQU Y0, (DI)(BX*1)
	VMOVDQU Y1, (SI)(BX*1)
	VMOVDQU Y2, (DX)(BX*1)
	ADDQ $32, BX
	DECQ CX
	JNZ  fold
	VZEROUPPER
	RET

// func addRows(to, from *elem, n int)
TEXT ·addRows(SB), NOSPLIT, $0-24
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	SUBQ $2, CX
	JL   single

rows:
	VMOVDQU (SI), Y0
	VPXOR   (DI), Y0, Y0
	VMOVDQU Y0, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $2, CX
	JGE  rows

single:
	ADDQ $2, CX
	JZ   end
	VMOVDQU (SI), X0
	VPXOR   (DI), X0, X0
	VMOVDQU X0, (DI)

end:
	VZEROUPPER
	RET

// STAGE swaps blocks of w by w beside the diagonal in 64 rows at R8, in four
// matrices at once.
#define STAGE(w, mask) \
	VPBROADCASTQ mask, Y15;        \
	XORQ R10, R10;                 \
	VMOVDQU (R8)(R10*1), Y0;       \
	VMOVDQU 32*w(R8)(R10*1), Y1;   \
	VPSRLQ $w, Y0, Y2;             \
	VPXOR  Y1, Y2, Y2;             \
	VPAND  Y15, Y2, Y2;            \
	VPXOR  Y2, Y1, Y1;             \
	VPSLLQ $w, Y2, Y2;             \
	VPXOR  Y2, Y0, Y0;             \
	VMOVDQU Y0, (R8)(R10*1);       \
	VMOVDQU Y1, 32*w(R8)(R10*1);   \
	ADDQ $32, R10;                 \
	TESTQ $(32*w), R10;            \
	JZ   -12(PC);                  \
	ADDQ $(32*w), R10;             \
	CMPQ R10, $2048;               \
	JL   -15(PC)

DATA ·lefts+0(SB)/8, $0x00000000ffffffff
DATA ·lefts+8(SB)/8, $0x0000ffff0000ffff
DATA ·lefts+16(SB)/8, $0x00ff00ff00ff00ff
DATA ·lefts+24(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA ·lefts+32(SB)/8, $0x3333333333333333
DATA ·lefts+40(SB)/8, $0x5555555555555555
GLOBL ·lefts(SB), RODATA|NOPTR, $48

// func transposeRows(m *[128][4]uint64)
//
// Turns two times four matrices of 64 by 64 bits.
TEXT ·transposeRows(SB), NOSPLIT, $0-8
	MOVQ m+0(FP), R8
	MOVQ $2, CX

half:
	STAGE(32, ·lefts+0(SB))
	STAGE(16, ·lefts+8(SB))
	STAGE(8, ·lefts+16(SB))
	STAGE(4, ·lefts+24(SB))
	STAGE(2, ·lefts+32(SB))
	STAGE(1, ·lefts+40(SB))
	ADDQ $2048, R8
	DECQ CX
	JNZ  half
	VZEROUPPER
	RET

// func storeRows(to *elem, m *[128][4]uint64)
//
// Puts the halves of 256 rows together.
TEXT ·storeRows(SB), NOSPLIT, $0-16
	MOVQ to+0(FP), DI
	MOVQ m+8(FP), SI
	MOVQ $64, CX

store:
	VMOVDQU      (SI), Y0
	VMOVDQU      2048(SI), Y1
	VPUNPCKLQDQ  Y1, Y0, Y2
	VPUNPCKHQDQ  Y1, Y0, Y3
	VMOVDQU      X2, (DI)
	VMOVDQU      X3, 1024(DI)
	VEXTRACTI128 $1, Y2, 2048(DI)
	VEXTRACTI128 $1, Y3, 3072(DI)
	ADDQ $32, SI
	ADDQ $16, DI
	DECQ CX
	JNZ  store
	VZEROUPPER
	RET

// func cpuidSeven() (ecx uint32)
//
// Leaf 7 of CPUID, which must exist.
TEXT ·cpuidSeven(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET

//go:build !purego

#include "textflag.h"

#define V0 X0
#define V1 X1
#define V2 X2
#define V3 X3
#define V4 X4
#define V5 X5
#define V6 X6
#define V7 X7
#define V8 X8
#define V9 X9
#define V10 X10
#define V11 X11
#define V12 X12
#define V13 X13
#define V14 X14
#define V15 X15
#define SIZE 16

#define FIRST_BLOCKS ·firstBlocks1
#define EXPAND_FOUR ·expandFour1
#define PRODUCTS ·products1
#define PRODUCT_KEYS ·productKeys1
#define CONSTRAIN_WORD ·constrain1
#define DOT ·dot1
#define DIGEST ·digest1

#define LOAD128(from, to) VMOVDQU from, to

#define STORE_PAIRS(first, second, at) \
	VMOVDQU first, at(DI);  \
	VMOVDQU second, at+SIZE(DI)

#define PRODUCT_COUNTS ·zeroes(SB)
#define PRODUCT_STEP ·ones(SB)

#define PAIR(at, base, to, half) VMOVDQU at(base)(BX*1), to

// The lower half has nothing before its first bit.
#define LAST_PAIR(base, to, half) \
	VPXOR   to, to, to;      \
	TESTQ   AX, AX;          \
	JZ      3(PC);           \
	MOVQ    $-16, BX;        \
	VMOVDQU (base)(BX*1), to; \
	XORQ    BX, BX

#define CONSTRAIN_COUNTS \
	VMOVDQU ·constrainCounts(SB), V15; \
	TESTQ   AX, AX;                    \
	JZ      2(PC);                     \
	VMOVDQU ·constrainCounts+16(SB), V15

#define CONSTRAIN_STEP ·ones(SB)

#include "lanes_amd64.h"

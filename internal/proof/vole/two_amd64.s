//go:build !purego

#include "textflag.h"

#define V0 Y0
#define V1 Y1
#define V2 Y2
#define V3 Y3
#define V4 Y4
#define V5 Y5
#define V6 Y6
#define V7 Y7
#define V8 Y8
#define V9 Y9
#define V10 Y10
#define V11 Y11
#define V12 Y12
#define V13 Y13
#define V14 Y14
#define V15 Y15
#define SIZE 32

#define FIRST_BLOCKS ·firstBlocks2
#define EXPAND_FOUR ·expandFour2
#define PRODUCTS ·products2
#define PRODUCT_KEYS ·productKeys2
#define CONSTRAIN_WORD ·constrain2
#define DOT ·dot2
#define DIGEST ·digest2

#define LOAD128(from, to) VBROADCASTI128 from, to

// The lanes are of two keys: each key's blocks go together.
#define STORE_PAIRS(first, second, at) \
	VPERM2I128 $0x20, second, first, V12; \
	VMOVDQU    V12, at(DI);               \
	VPERM2I128 $0x31, second, first, V12; \
	VMOVDQU    V12, at+SIZE(DI)

#define PRODUCT_COUNTS ·productCounts(SB)
#define PRODUCT_STEP ·twos(SB)

// One lane is of the lower half of a word, one of the upper.
#define PAIR(at, base, to, half) \
	VMOVDQU     at(base)(BX*1), half; \
	VINSERTI128 $1, at+256(base)(BX*1), to, to

#define LAST_PAIR(base, to, half) \
	VPXOR       to, to, to; \
	VINSERTI128 $1, 240(base), to, to

#define CONSTRAIN_COUNTS VMOVDQU ·constrainCounts(SB), V15
#define CONSTRAIN_STEP ·ones(SB)

#include "lanes_amd64.h"

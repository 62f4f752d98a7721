// The code that is the same for vectors of one and of two lanes of 128 bits.
// It is included twice, with other names for the registers V0 to V15.

// MASK sets to to all ones in the lanes whose bit of the word at w is set, by
// the shift counts in V15.
#define MASK(w, to) \
	VPBROADCASTD w, to;       \
	VPSLLVD      V15, to, to; \
	VPSRAD       $31, to, to

// MUL sets lo, mid and hi to the parts of a*b, mid standing 64 bits above lo.
#define MUL(a, b, lo, mid, hi, tmp) \
	VPCLMULQDQ $0x00, a, b, lo;   \
	VPCLMULQDQ $0x11, a, b, hi;   \
	VPCLMULQDQ $0x10, a, b, mid;  \
	VPCLMULQDQ $0x01, a, b, tmp;  \
	VPXOR      tmp, mid, mid

// MULADD adds the parts of a*b.
#define MULADD(a, b, lo, mid, hi, tmp) \
	VPCLMULQDQ $0x00, a, b, tmp;  \
	VPXOR      tmp, lo, lo;       \
	VPCLMULQDQ $0x11, a, b, tmp;  \
	VPXOR      tmp, hi, hi;       \
	VPCLMULQDQ $0x10, a, b, tmp;  \
	VPXOR      tmp, mid, mid;     \
	VPCLMULQDQ $0x01, a, b, tmp;  \
	VPXOR      tmp, mid, mid

// JOIN adds mid to lo and hi.
#define JOIN(lo, mid, hi, tmp) \
	VPSLLDQ $8, mid, tmp;  \
	VPXOR   tmp, lo, lo;   \
	VPSRLDQ $8, mid, mid;  \
	VPXOR   mid, hi, hi

// REDUCE brings hi, 128 bits above lo, into lo. V14 is 0x87.
#define REDUCE(lo, hi, tmp, tmp2) \
	VPCLMULQDQ $0x01, V14, hi, tmp;  \
	VPSLLDQ    $8, tmp, tmp2;        \
	VPXOR      tmp2, lo, lo;         \
	VPSRLDQ    $8, tmp, tmp;         \
	VPXOR      tmp, hi, hi;          \
	VPCLMULQDQ $0x00, V14, hi, tmp;  \
	VPXOR      tmp, lo, lo

// FOLD brings top, below x^118 and 128 bits above hi, into hi.
#define FOLD(hi, top, tmp) \
	VPCLMULQDQ $0x01, V14, top, tmp;  \
	VPSLLDQ    $8, tmp, tmp;          \
	VPXOR      tmp, hi, hi;           \
	VPCLMULQDQ $0x00, V14, top, tmp;  \
	VPXOR      tmp, hi, hi

// SCHEDULE makes the next round key of key, in the way of RotWord by a byte
// shuffle and SubWord by the last AES round. V13 is the shuffle, V14 the round
// constant.
#define SCHEDULE(key, tmp) \
	VPSHUFB     V13, key, tmp;  \
	VAESENCLAST V14, tmp, tmp;  \
	VPSLLDQ     $4, key, V15;   \
	VPXOR       V15, key, key;  \
	VPSLLDQ     $8, key, V15;   \
	VPXOR       V15, key, key;  \
	VPXOR       tmp, key, key

#define ROUND4 \
	SCHEDULE(V0, V12);      \
	VAESENC V0, V4, V4;     \
	VAESENC V0, V5, V5;     \
	SCHEDULE(V1, V12);      \
	VAESENC V1, V6, V6;     \
	VAESENC V1, V7, V7;     \
	SCHEDULE(V2, V12);      \
	VAESENC V2, V8, V8;     \
	VAESENC V2, V9, V9;     \
	SCHEDULE(V3, V12);      \
	VAESENC V3, V10, V10;   \
	VAESENC V3, V11, V11;   \
	VPSLLD  $1, V14, V14

// func firstBlocks(dst *byte, keys *byte, tweaks, base *[16]byte, n int)
//
// Encrypts base xor tweak, and that plus 1, under each key. n counts groups of
// four registers of keys.
TEXT FIRST_BLOCKS(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ keys+8(FP), SI
	MOVQ tweaks+16(FP), DX
	MOVQ base+24(FP), R8
	MOVQ n+32(FP), CX
	LOAD128(·rotWord(SB), V13)

blocks:
	VMOVDQU 0*SIZE(SI), V0
	VMOVDQU 1*SIZE(SI), V1
	VMOVDQU 2*SIZE(SI), V2
	VMOVDQU 3*SIZE(SI), V3
	LOAD128((R8), V14)
	LOAD128(·one(SB), V15)
	VPXOR   0*SIZE(DX), V14, V4
	VPXOR   1*SIZE(DX), V14, V6
	VPXOR   2*SIZE(DX), V14, V8
	VPXOR   3*SIZE(DX), V14, V10
	VPXOR   V0, V4, V4
	VPXOR   V1, V6, V6
	VPXOR   V2, V8, V8
	VPXOR   V3, V10, V10
	VPXOR   V15, V4, V5
	VPXOR   V15, V6, V7
	VPXOR   V15, V8, V9
	VPXOR   V15, V10, V11
	LOAD128(·roundConstant(SB), V14)
	ROUND4
	ROUND4
	ROUND4
	ROUND4
	ROUND4
	ROUND4
	ROUND4
	ROUND4
	LOAD128(·roundConstant+16(SB), V14)
	ROUND4
	SCHEDULE(V0, V12)
	SCHEDULE(V1, V12)
	SCHEDULE(V2, V12)
	SCHEDULE(V3, V12)
	VAESENCLAST V0, V4, V4
	VAESENCLAST V0, V5, V5
	VAESENCLAST V1, V6, V6
	VAESENCLAST V1, V7, V7
	VAESENCLAST V2, V8, V8
	VAESENCLAST V2, V9, V9
	VAESENCLAST V3, V10, V10
	VAESENCLAST V3, V11, V11
	STORE_PAIRS(V4, V5, 0)
	STORE_PAIRS(V6, V7, 2*SIZE)
	STORE_PAIRS(V8, V9, 4*SIZE)
	STORE_PAIRS(V10, V11, 6*SIZE)
	ADDQ $(8*SIZE), DI
	ADDQ $(4*SIZE), SI
	ADDQ $(4*SIZE), DX
	DECQ CX
	JNZ  blocks
	VZEROUPPER
	RET

#define AES4(r) \
	LOAD128(0*176+16*r(R8), V8);    \
	LOAD128(1*176+16*r(R8), V9);    \
	LOAD128(2*176+16*r(R8), V10);   \
	LOAD128(3*176+16*r(R8), V11);   \
	VAESENC V8, V0, V0;             \
	VAESENC V8, V1, V1;             \
	VAESENC V9, V2, V2;             \
	VAESENC V9, V3, V3;             \
	VAESENC V10, V4, V4;            \
	VAESENC V10, V5, V5;            \
	VAESENC V11, V6, V6;            \
	VAESENC V11, V7, V7

// func expandFour(sum, low, high, counters *byte, keys *[4][176]byte, n int)
//
// n counts pairs of registers. V0, V1 are of the first leaf, V2, V3 of the
// second, and so on.
TEXT EXPAND_FOUR(SB), NOSPLIT, $0-48
	MOVQ sum+0(FP), DI
	MOVQ low+8(FP), SI
	MOVQ high+16(FP), DX
	MOVQ counters+24(FP), R9
	MOVQ keys+32(FP), R8
	MOVQ n+40(FP), CX
	XORQ BX, BX

expand:
	VMOVDQU (R9)(BX*1), V12
	VMOVDQU SIZE(R9)(BX*1), V13
	LOAD128(0*176(R8), V8)
	LOAD128(1*176(R8), V9)
	LOAD128(2*176(R8), V10)
	LOAD128(3*176(R8), V11)
	VPXOR   V12, V8, V0
	VPXOR   V13, V8, V1
	VPXOR   V12, V9, V2
	VPXOR   V13, V9, V3
	VPXOR   V12, V10, V4
	VPXOR   V13, V10, V5
	VPXOR   V12, V11, V6
	VPXOR   V13, V11, V7
	AES4(1)
	AES4(2)
	AES4(3)
	AES4(4)
	AES4(5)
	AES4(6)
	AES4(7)
	AES4(8)
	AES4(9)
	LOAD128(0*176+160(R8), V8)
	LOAD128(1*176+160(R8), V9)
	LOAD128(2*176+160(R8), V10)
	LOAD128(3*176+160(R8), V11)
	VAESENCLAST V8, V0, V0
	VAESENCLAST V8, V1, V1
	VAESENCLAST V9, V2, V2
	VAESENCLAST V9, V3, V3
	VAESENCLAST V10, V4, V4
	VAESENCLAST V10, V5, V5
	VAESENCLAST V11, V6, V6
	VAESENCLAST V11, V7, V7
	VPXOR   V6, V2, V2
	VPXOR   V7, V3, V3
	VPXOR   V4, V0, V0
	VPXOR   V5, V1, V1
	VPXOR   V2, V0, V0
	VPXOR   V3, V1, V1
	VPXOR   V6, V4, V4
	VPXOR   V7, V5, V5
	VPXOR   (SI)(BX*1), V2, V2
	VPXOR   SIZE(SI)(BX*1), V3, V3
	VPXOR   (DX)(BX*1), V4, V4
	VPXOR   SIZE(DX)(BX*1), V5, V5
	VMOVDQU V0, (DI)(BX*1)
	VMOVDQU V1, SIZE(DI)(BX*1)
	VMOVDQU V2, (SI)(BX*1)
	VMOVDQU V3, SIZE(SI)(BX*1)
	VMOVDQU V4, (DX)(BX*1)
	VMOVDQU V5, SIZE(DX)(BX*1)
	ADDQ $(2*SIZE), BX
	DECQ CX
	JNZ  expand
	VZEROUPPER
	RET

// func products(y0, y1 *elem, l, a, b *word, bits *[2]uint32)
//
// y0 = a*b, y1 = l + b where bits[0] is set + a where bits[1] is set.
TEXT PRODUCTS(SB), NOSPLIT, $0-48
	MOVQ y0+0(FP), DI
	MOVQ y1+8(FP), SI
	MOVQ l+16(FP), R8
	MOVQ a+24(FP), R9
	MOVQ b+32(FP), R10
	MOVQ bits+40(FP), DX
	MOVQ $(512-SIZE), BX
	LOAD128(·modulus(SB), V14)
	VMOVDQU PRODUCT_COUNTS, V15

products:
	VMOVDQU (R9)(BX*1), V0
	VMOVDQU (R10)(BX*1), V1
	MUL(V0, V1, V2, V3, V4, V5)
	JOIN(V2, V3, V4, V5)
	REDUCE(V2, V4, V5, V6)
	VMOVDQU V2, (DI)(BX*1)
	MASK(0(DX), V7)
	MASK(4(DX), V8)
	VPAND   V1, V7, V7
	VPAND   V0, V8, V8
	VPXOR   (R8)(BX*1), V7, V7
	VPXOR   V8, V7, V7
	VMOVDQU V7, (SI)(BX*1)
	VPADDD  PRODUCT_STEP, V15, V15
	SUBQ $SIZE, BX
	JGE  products
	VZEROUPPER
	RET

// func productKeys(y *elem, l, a, b *word, delta *elem)
//
// y = a*b + delta*l.
TEXT PRODUCT_KEYS(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ l+8(FP), R8
	MOVQ a+16(FP), R9
	MOVQ b+24(FP), R10
	MOVQ delta+32(FP), DX
	MOVQ $(512-SIZE), BX
	LOAD128(·modulus(SB), V14)
	LOAD128((DX), V13)

keys:
	VMOVDQU (R9)(BX*1), V0
	VMOVDQU (R10)(BX*1), V1
	VMOVDQU (R8)(BX*1), V7
	MUL(V0, V1, V2, V3, V4, V5)
	MULADD(V7, V13, V2, V3, V4, V5)
	JOIN(V2, V3, V4, V5)
	REDUCE(V2, V4, V5, V6)
	VMOVDQU V2, (DI)(BX*1)
	SUBQ $SIZE, BX
	JGE  keys
	VZEROUPPER
	RET

// CONSTRAIN adds the constraints of the bits at BX. V8 and V9 are x and s of
// the bits before. The coefficients' sums, in V2:V1:V0, V5:V4:V3 and V7:V6, move
// up by a byte first.
#define CONSTRAIN \
	VPALIGNR $15, V1, V2, V2;         \
	VPALIGNR $15, V0, V1, V1;         \
	VPSLLDQ  $1, V0, V0;              \
	VPALIGNR $15, V4, V5, V5;         \
	VPALIGNR $15, V3, V4, V4;         \
	VPSLLDQ  $1, V3, V3;              \
	VPALIGNR $15, V6, V7, V7;         \
	VPSLLDQ  $1, V6, V6;              \
	MUL(V8, V9, V10, V11, V12, V13);  \
	MASK(4(DX), V13);                 \
	VPAND    V9, V13, V13;            \
	VPXOR    V13, V6, V6;             \
	MASK(8(DX), V13);                 \
	VPANDN   V8, V13, V13;            \
	VPXOR    V13, V6, V6;             \
	VPXOR    V9, V8, V8;              \
	MASK(12(DX), V13);                \
	VPAND    V8, V13, V13;            \
	VPXOR    V13, V6, V6;             \
	PAIR(-16, R9, V9, X9);            \
	MULADD(V8, V9, V10, V11, V12, V13); \
	JOIN(V10, V11, V12, V13);         \
	VPXOR    V10, V3, V3;             \
	VPXOR    V12, V4, V4;             \
	MASK(0(DX), V10);                 \
	VPANDN   V9, V10, V13;            \
	VPXOR    V13, V6, V6;             \
	PAIR(-16, R8, V9, X9);            \
	VPANDN   V9, V10, V13;            \
	VPXOR    V13, V3, V3;             \
	MUL(V8, V9, V10, V11, V12, V13);  \
	JOIN(V10, V11, V12, V13);         \
	VPXOR    V10, V0, V0;             \
	VPXOR    V12, V1, V1;             \
	PAIR(0, R8, V10, X10);            \
	VPXOR    V10, V3, V3;             \
	PAIR(0, R9, V10, X10);            \
	VPXOR    V10, V6, V6;             \
	PAIR(0, SI, V10, X10);            \
	VPXOR    V10, V6, V6;             \
	PAIR(0, DI, V10, X10);            \
	VPXOR    V10, V6, V6

// func constrain(out *[3][2]elem, y0, y1, s, x *elem, bits *[4]uint32, half int)
//
// The bits are those of x xor s, x, s, y. One lane does the half of the word
// that the pointers point to; two lanes do both.
TEXT CONSTRAIN_WORD(SB), NOSPLIT, $0-56
	MOVQ y0+8(FP), R8
	MOVQ y1+16(FP), R9
	MOVQ s+24(FP), SI
	MOVQ x+32(FP), DI
	MOVQ bits+40(FP), DX
	MOVQ half+48(FP), AX
	MOVQ $240, BX
	CONSTRAIN_COUNTS
	VPXOR V0, V0, V0
	VPXOR V1, V1, V1
	VPXOR V2, V2, V2
	VPXOR V3, V3, V3
	VPXOR V4, V4, V4
	VPXOR V5, V5, V5
	VPXOR V6, V6, V6
	VPXOR V7, V7, V7

constrain:
	PAIR(-16, DI, V8, X8)
	PAIR(-16, SI, V9, X9)
	CONSTRAIN
	VPADDD CONSTRAIN_STEP, V15, V15
	SUBQ $16, BX
	JG   constrain
	LAST_PAIR(DI, V8, X8)
	LAST_PAIR(SI, V9, X9)
	CONSTRAIN
	LOAD128(·modulus(SB), V14)
	FOLD(V1, V2, V13)
	REDUCE(V0, V1, V12, V13)
	FOLD(V4, V5, V13)
	REDUCE(V3, V4, V12, V13)
	FOLD(V6, V7, V13)
	MOVQ out+0(FP), DI
	VMOVDQU V0, (DI)
	VMOVDQU V3, 32(DI)
	VMOVDQU V6, 64(DI)
	VZEROUPPER
	RET

// func dot(out *[2]elem, a, b *elem, n int)
//
// n counts registers.
TEXT DOT(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	LOAD128(·modulus(SB), V14)
	VPXOR V2, V2, V2
	VPXOR V3, V3, V3
	VPXOR V4, V4, V4

dot:
	VMOVDQU (SI), V0
	VMOVDQU (DX), V1
	MULADD(V0, V1, V2, V3, V4, V5)
	ADDQ $SIZE, SI
	ADDQ $SIZE, DX
	DECQ CX
	JNZ  dot
	JOIN(V2, V3, V4, V5)
	REDUCE(V2, V4, V5, V6)
	VMOVDQU V2, (DI)
	VZEROUPPER
	RET

// func digest(out *[4]elem, s *elem, t *uint64, column *byte, n int)
//
// out[0:2] is the sum of s times the blocks in GF(2^128), out[2:4] that of t
// times the halves of the blocks, not reduced.
TEXT DIGEST(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ t+16(FP), R8
	MOVQ column+24(FP), DX
	MOVQ n+32(FP), CX
	LOAD128(·modulus(SB), V14)
	VPXOR V2, V2, V2
	VPXOR V3, V3, V3
	VPXOR V4, V4, V4
	VPXOR V7, V7, V7
	VPXOR V9, V9, V9

digest:
	VMOVDQU (SI), V0
	VMOVDQU (DX), V1
	VMOVDQU (R8), V8
	MULADD(V0, V1, V2, V3, V4, V5)
	VPCLMULQDQ $0x00, V1, V8, V6
	VPXOR V6, V7, V7
	VPCLMULQDQ $0x11, V1, V8, V6
	VPXOR V6, V9, V9
	ADDQ $SIZE, SI
	ADDQ $SIZE, DX
	ADDQ $SIZE, R8
	DECQ CX
	JNZ  digest
	JOIN(V2, V3, V4, V5)
	REDUCE(V2, V4, V5, V6)
	VPXOR V9, V7, V7
	VMOVDQU V2, (DI)
	VMOVDQU V7, 32(DI)
	VZEROUPPER
	RET

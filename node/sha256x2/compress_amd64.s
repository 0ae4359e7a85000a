//go:build !purego

#include "textflag.h"

// SHA256RNDS2 does two rounds of one digest; the next two can begin only when it
// is through, four cycles later, though the unit could take another in between.
// So two digests, P and Q, take turns here: each step of P is followed by the same
// step of Q, which needs nothing of it.
//
// The instructions, and their order of the state (ABEF, CDGH), are described in
// "Intel SHA Extensions", 2013. X0 is SHA256RNDS2's implicit operand: the sums of
// four words and their constants.

#define P_ABEF X1
#define P_CDGH X2
#define P0 X3 // the last 16 words of P's schedule; which four are the newest rotates
#define P1 X4
#define P2 X5
#define P3 X6

#define Q_ABEF X7
#define Q_CDGH X8
#define Q0 X9
#define Q1 X10
#define Q2 X11
#define Q3 X12

#define T X13    // scratch
#define W X14    // P's X0, while Q uses it
#define SWAP X15 // mask: big-endian words to ours

// STATE turns two halves of a state as FIPS 180-4 lists it, abcd and efgh, into
// ABEF and CDGH; STORE turns them back.
#define STATE(abcd, efgh) \
	PSHUFD  $0xb1, abcd, abcd \
	PSHUFD  $0x1b, efgh, efgh \
	MOVOU   abcd, T           \
	PALIGNR $8, efgh, abcd    \
	PBLENDW $0xf0, T, efgh

#define STORE(abef, cdgh, to) \
	PSHUFD  $0x1b, abef, abef \
	PSHUFD  $0xb1, cdgh, cdgh \
	MOVOU   abef, T           \
	PBLENDW $0xf0, cdgh, abef \
	PALIGNR $8, T, cdgh       \
	MOVOU   abef, 0(to)       \
	MOVOU   cdgh, 16(to)

// LOAD reads four words of the message.
#define LOAD(at, words) \
	MOVOU  at, words  \
	PSHUFB SWAP, words

// ROUNDS does, of both, rounds 4i and 4i+1 with these words, MORE the two that
// follow, with the upper halves. What stands between them fills the time that
// they take.
#define ROUNDS(i, p, q) \
	MOVOU       constants<>+(16*i)(SB), X0 \
	PADDD       p, X0              \
	SHA256RNDS2 X0, P_ABEF, P_CDGH \
	MOVOU       X0, W              \
	MOVOU       constants<>+(16*i)(SB), X0 \
	PADDD       q, X0              \
	SHA256RNDS2 X0, Q_ABEF, Q_CDGH

#define MORE \
	PSHUFD      $0x0e, X0, T       \
	PSHUFD      $0x0e, W, X0       \
	SHA256RNDS2 X0, P_CDGH, P_ABEF \
	MOVOU       T, X0              \
	SHA256RNDS2 X0, Q_CDGH, Q_ABEF

// BEGIN starts, in the place of the oldest words, the sum that becomes new ones;
// second are the four that follow them.
#define BEGIN(oldest, second) SHA256MSG1 second, oldest

// FINISH makes them the new words; newest and before are the last eight so far.
#define FINISH(oldest, before, newest) \
	MOVOU      newest, T      \
	PALIGNR    $4, before, T  \
	PADDD      T, oldest      \
	SHA256MSG2 newest, oldest

// STEP does rounds 4i to 4i+3 of both, and the schedule that goes with them. (This
// order is the quickest of seven on Zen 5: 3.45 GB/s; the slowest has 3.1.)
#define STEP(i, p0, p1, p3, q0, q1, q3) \
	ROUNDS(i, p0, q0)  \
	FINISH(p1, p3, p0) \
	MORE               \
	FINISH(q1, q3, q0) \
	BEGIN(p3, p0)      \
	BEGIN(q3, q0)

// func compress(a, b *[8]uint32, p, q []byte)
// Requires: SHA, SSE2, SSSE3, SSE4.1
TEXT ·compress(SB), NOSPLIT, $64-64
	MOVQ a+0(FP), AX
	MOVQ b+8(FP), BX
	MOVQ p_base+16(FP), SI
	MOVQ p_len+24(FP), CX
	MOVQ q_base+40(FP), DI
	SHRQ $6, CX
	JZ   done

	MOVOU swap<>(SB), SWAP
	MOVOU 0(AX), P_ABEF
	MOVOU 16(AX), P_CDGH
	MOVOU 0(BX), Q_ABEF
	MOVOU 16(BX), Q_CDGH
	STATE(P_ABEF, P_CDGH)
	STATE(Q_ABEF, Q_CDGH)

block:
	MOVOU P_ABEF, 0(SP)
	MOVOU P_CDGH, 16(SP)
	MOVOU Q_ABEF, 32(SP)
	MOVOU Q_CDGH, 48(SP)

	LOAD(0(SI), P0)
	LOAD(0(DI), Q0)
	ROUNDS(0, P0, Q0)
	MORE

	LOAD(16(SI), P1)
	LOAD(16(DI), Q1)
	ROUNDS(1, P1, Q1)
	MORE
	BEGIN(P0, P1)
	BEGIN(Q0, Q1)

	LOAD(32(SI), P2)
	LOAD(32(DI), Q2)
	ROUNDS(2, P2, Q2)
	MORE
	BEGIN(P1, P2)
	BEGIN(Q1, Q2)

	LOAD(48(SI), P3)
	LOAD(48(DI), Q3)
	STEP(3, P3, P0, P2, Q3, Q0, Q2)
	STEP(4, P0, P1, P3, Q0, Q1, Q3)
	STEP(5, P1, P2, P0, Q1, Q2, Q0)
	STEP(6, P2, P3, P1, Q2, Q3, Q1)
	STEP(7, P3, P0, P2, Q3, Q0, Q2)
	STEP(8, P0, P1, P3, Q0, Q1, Q3)
	STEP(9, P1, P2, P0, Q1, Q2, Q0)
	STEP(10, P2, P3, P1, Q2, Q3, Q1)
	STEP(11, P3, P0, P2, Q3, Q0, Q2)
	STEP(12, P0, P1, P3, Q0, Q1, Q3)

	// Nothing more begins: the schedule has 64 words.
	ROUNDS(13, P1, Q1)
	MORE
	FINISH(P2, P0, P1)
	FINISH(Q2, Q0, Q1)

	ROUNDS(14, P2, Q2)
	MORE
	FINISH(P3, P1, P2)
	FINISH(Q3, Q1, Q2)

	ROUNDS(15, P3, Q3)
	MORE

	MOVOU 0(SP), T
	PADDD T, P_ABEF
	MOVOU 16(SP), T
	PADDD T, P_CDGH
	MOVOU 32(SP), T
	PADDD T, Q_ABEF
	MOVOU 48(SP), T
	PADDD T, Q_CDGH

	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  block

	STORE(P_ABEF, P_CDGH, AX)
	STORE(Q_ABEF, Q_CDGH, BX)

done:
	RET

DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// The round constants of FIPS 180-4, 4.2.2, two to a line, the second first.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256

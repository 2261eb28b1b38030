/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: facts about the low half survive the pair of shifts that widens it, signed and unsigned. */
#include "naam.h"

struct m {
	s32 index;
	u32 other;
	u32 data[256];
};

SEC("naam/f") int f(struct m *message)
{
	u64 index = message->index, other = message->other, result;

	asm volatile("r2 = %1\n\t"
		     "r4 = %2\n\t"
		     "r0 = 0\n\t"
		     "if w2 s> 0xff goto +15\n\t"
		     "if w2 s< 0 goto +14\n\t"
		     "r2 <<= 32\n\t"
		     "r2 s>>= 32\n\t"
		     "r2 <<= 2\n\t"
		     "r3 = %3\n\t"
		     "r3 += r2\n\t"
		     "r0 = *(u32 *)(r3 + 0)\n\t"
		     "if w4 > 0xff goto +7\n\t"
		     "r4 <<= 32\n\t"
		     "r4 >>= 32\n\t"
		     "r4 <<= 2\n\t"
		     "r3 = %3\n\t"
		     "r3 += r4\n\t"
		     "r3 = *(u32 *)(r3 + 0)\n\t"
		     "r0 += r3\n\t"
		     "%0 = r0"
		     : "=r"(result)
		     : "r"(index), "r"(other), "r"(message->data)
		     : "r0", "r2", "r3", "r4", "memory");
	return result;
}

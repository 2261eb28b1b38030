/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a pointer runs to an end that was computed from it. */
#include "naam.h"

struct m {
	u64 length;
	u64 sum;
	u8 data[64];
};

SEC("naam/f") int f(struct m *message)
{
	u64 length = naam_at_most(message->length, 64), sum = 0;

	asm volatile("r7 = %2\n\t"
		     "r8 = r7\n\t"
		     "r8 += %1\n\t"
		     "goto +3\n\t"
		     "r4 = *(u8 *)(r7 + 0)\n\t"
		     "%0 += r4\n\t"
		     "r7 += 1\n\t"
		     "if r7 < r8 goto -4"
		     : "+r"(sum)
		     : "r"(length), "r"(message->data)
		     : "r4", "r7", "r8", "memory");
	message->sum = sum;
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: loops that end at equality: exact thresholds, and an end point that is removed. */
#include "naam.h"

struct m {
	u64 sum;
	u8 data[16];
};

SEC("naam/f") int f(struct m *message)
{
	u64 sum = 0;

	asm volatile("r8 = 1\n\t"
		     "%0 += r8\n\t"
		     "r8 += 1\n\t"
		     "if r8 != 0x186a1 goto -3\n\t"
		     "r8 = 0\n\t"
		     "r4 = %1\n\t"
		     "r4 += r8\n\t"
		     "r4 = *(u8 *)(r4 + 0)\n\t"
		     "%0 += r4\n\t"
		     "r8 += 1\n\t"
		     "if r8 != 16 goto -6"
		     : "+r"(sum)
		     : "r"(message->data)
		     : "r4", "r8", "memory");
	message->sum = sum;
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: the check is on a register that equals another one up to a constant, going up and going down. */
#include "naam.h"

struct m {
	u64 count;
	u64 sum;
	u8 data[32];
};

SEC("naam/f") int f(struct m *message)
{
	u64 count = naam_at_most(message->count, 31), sum = 0;

	asm volatile("r7 = 0\n\t"
		     "r3 = r7\n\t" /* up: the old value is compared */
		     "r4 = %2\n\t"
		     "r4 += r7\n\t"
		     "r4 = *(u8 *)(r4 + 0)\n\t"
		     "%0 += r4\n\t"
		     "r7 += 1\n\t"
		     "if r3 < 0x1f goto -7\n\t"
		     "r2 = %1\n\t"
		     "if r2 == 0 goto +7\n\t"
		     "r5 = r2\n\t" /* down */
		     "r2 += -1\n\t"
		     "r4 = %2\n\t"
		     "r4 += r2\n\t"
		     "r4 = *(u8 *)(r4 + 0)\n\t"
		     "%0 += r4\n\t"
		     "if r5 > 1 goto -7"
		     : "+r"(sum)
		     : "r"(count), "r"(message->data)
		     : "r2", "r3", "r4", "r5", "r7", "memory");
	message->sum = sum;
	return 0;
}

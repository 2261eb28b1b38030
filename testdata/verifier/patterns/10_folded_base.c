/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a base outside the array is no access; the number comes first in the addition. */
#include "naam.h"

struct m {
	u64 index;
	u64 sum;
	u8 data[16];
};

SEC("naam/f") int f(struct m *message)
{
	u64 index = message->index, sum;

	if (index < 1 || index > 16)
		return 1;
	asm volatile("r4 = %2\n\t"
		     "r4 += -2000000\n\t"
		     "r4 += 1999999\n\t"
		     "r5 = %1\n\t"
		     "r5 += r4\n\t"
		     "%0 = *(u8 *)(r5 + 0)"
		     : "=r"(sum)
		     : "r"(index), "r"(message->data)
		     : "r4", "r5", "memory");
	message->sum = sum;
	return 0;
}

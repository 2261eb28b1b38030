/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* REJECT N301, hint naamc build: two variables step together, and only the one that is not used as an offset is bounded: what loop strength reduction makes. */
#include "naam.h"

struct m {
	u64 count;
	u64 value[8];
};

SEC("naam/f") int f(struct m *message)
{
	u64 count = naam_at_most(message->count, 8);

	asm volatile("r8 = %0\n\t" /* JUDGED: N301 */
		     "r6 = 0\n\t"
		     "r7 = %1\n\t"
		     "r9 = 0\n\t"
		     "if r8 == 0 goto +5\n\t"
		     "*(u64 *)(r7 + 0) = r9\n\t"
		     "r9 += 64\n\t"
		     "r7 += 8\n\t"
		     "r6 += 1\n\t"
		     "if r6 < r8 goto -5"
		     :
		     : "r"(count), "r"(message->value)
		     : "r6", "r7", "r8", "r9", "memory");
	return 0;
}

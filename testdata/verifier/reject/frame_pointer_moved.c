/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An instruction that writes r10. */
#include "naam.h"

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	asm volatile("r10 += -8" ::: "memory"); /* JUDGED: N205 */
	return 0;
}

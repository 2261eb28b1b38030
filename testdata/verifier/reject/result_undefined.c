/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A result that no path sets. */
#include "naam.h"

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	int result = 0;

	asm volatile("%0 = r5" : "=r"(result)); /* JUDGED: N309 */
	return result;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A conditional jump to itself whose other side loops as well. */
#include "naam.h"

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	u64 value = message->value;

	asm volatile("if %0 == 0 goto -1; goto -2" : "+r"(value)); /* JUDGED: N223 */
	return value;
}

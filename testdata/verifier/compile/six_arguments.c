/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: more than five arguments. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

static __attribute__((noinline)) u64 sum(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	return a + b * 3 + c * 5 + d * 7 + e * 11 + f * 13;
}

SEC("naam/f") int f(struct m *message)
{
	return sum(message->a, message->b, message->c, message->a * 2, message->b * 2, message->c * 2);
}

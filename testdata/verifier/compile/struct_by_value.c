/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: a struct of more than 16 bytes as an argument. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

static __attribute__((noinline)) u64 sum(struct m m)
{
	return m.a + m.b + m.c;
}

SEC("naam/f") int f(struct m *message)
{
	return sum(*message);
}

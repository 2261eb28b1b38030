/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two functions that call each other. */
#include "naam.h"

struct m {
	u64 depth;
	u64 result;
};

static __attribute__((noinline)) u64 odd(u64 n);

static __attribute__((noinline)) u64 even(u64 n)
{
	return n == 0 ? 7 : odd(n - 1) * 3;
}

static __attribute__((noinline)) u64 odd(u64 n)
{
	return n == 0 ? 9 : (n - 1) + 1; /* JUDGED: N212 */
}

SEC("naam/f") int f(struct m *message)
{
	message->result = even(message->depth);
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function that calls itself. */
#include "naam.h"

struct m {
	u64 depth;
	u64 result;
};

static __attribute__((noinline)) u64 leaf(u64 n)
{
	return n * 3 + 1;
}

static __attribute__((noinline)) u64 walk(u64 n)
{
	if (n < 2)
		return n;
	return leaf(walk(n - 1)); /* JUDGED: N212 */
}

SEC("naam/f") int f(struct m *message)
{
	message->result = walk(message->depth);
	return 0;
}

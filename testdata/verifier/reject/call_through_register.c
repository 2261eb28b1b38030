/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A call through a pointer. */
#include "naam.h"

struct m {
	u64 kind;
	u64 value;
};

static __attribute__((noinline)) u64 twice(u64 n)
{
	return n * 2;
}

static __attribute__((noinline)) u64 thrice(u64 n)
{
	return n * 3;
}

SEC("naam/f") int f(struct m *message)
{
	message->value = (message->kind ? twice : thrice)(message->value); /* JUDGED: N208 */
	return 0;
}

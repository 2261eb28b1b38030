/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function that goes past its array of its caller through a pointer. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 index;
	u32 result;
};

static __attribute__((noinline)) u32 pick(const u32 *from, u32 index)
{
	return from[naam_at_most(index, 4)]; /* JUDGED: N302 */
}

SEC("naam/f") int f(struct m *message)
{
	u32 local[4];

	naam_read(&words, 0, local, 16);
	message->result = pick(local, message->index);
	return 0;
}

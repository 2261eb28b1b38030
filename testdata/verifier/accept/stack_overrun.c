/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An index past an array on the stack. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 index;
	u32 result;
};

SEC("naam/f") int f(struct m *message)
{
	u64 local[8];

	naam_read(&words, 0, local, sizeof(local));
	if (message->index > 7)
		return 1;
	message->result = local[message->index]; /* JUDGED: N302 */
	return 0;
}

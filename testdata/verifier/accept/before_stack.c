/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An access below an array at the bottom of the stack. */
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
	u8 local[4040];
	s64 index = (s64)naam_at_most(message->index, 100) - 0;

	naam_read(&words, 0, local, sizeof(local));
	message->result = local[index]; /* JUDGED: N302 */
	return 0;
}

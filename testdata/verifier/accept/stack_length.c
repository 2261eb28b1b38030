/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A UDMA read that is longer than the buffer at the end of the stack. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 length;
	u32 result;
};

SEC("naam/f") int f(struct m *message)
{
	u8 local[64];

	naam_read(&words, 0, local, naam_at_most(message->length, 64)); /* JUDGED: N302 */
	message->result = local[0];
	return 0;
}

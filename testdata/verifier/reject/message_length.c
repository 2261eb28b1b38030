/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A UDMA read that is longer than what is left of the message. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 skip;
	u32 length;
	u8 data[64];
};

SEC("naam/f") int f(struct m *message)
{
	u32 skip = message->skip, length = message->length;

	if (skip > 64 || length > 64)
		return 1;
	return naam_read(&words, 0, message->data + skip, length); /* JUDGED: N301 */
}

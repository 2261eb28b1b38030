/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A sum of two 32-bit numbers that may wrap before it is compared. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 skip, length;
	u8 data[64];
};

SEC("naam/f") int f(struct m *message)
{
	u32 skip = message->skip, length = message->length;

	if (skip + length > 64)
		return 1;
	return naam_read(&words, 0, message->data + skip, length); /* JUDGED: N301 */
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a slot of -1 to 6, as a signed 32-bit number, lives across a UDMA call. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 key;
	u64 value;
	u64 slots[7];
};

SEC("naam/f") int f(struct m *message)
{
	s32 slot = -1, i;

	for (i = 0; i < 7; i++)
		if (message->slots[i] == message->key)
			slot = i;
	naam_read(&words, 0, &message->value, 8);
	if (slot >= 0)
		message->slots[slot] = message->value;
	return slot;
}

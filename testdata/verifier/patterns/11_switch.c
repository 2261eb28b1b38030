/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a switch is a tree of comparisons. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 kind;
	u32 index;
	u64 data[8];
};

SEC("naam/f") int f(struct m *message)
{
	u32 index;

	switch (message->kind) {
	case 0:
		index = 7;
		break;
	case 3:
		index = message->index & 3;
		break;
	case 4:
	case 5:
		index = message->kind;
		break;
	case 17:
		index = message->index % 8;
		break;
	case 1000:
		return naam_read(&words, 0, message->data, 64);
	default:
		return 2;
	}
	message->data[index] = message->kind;
	return 0;
}

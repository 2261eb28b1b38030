/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: pointer or null, region or region, message or stack, live across a call. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 which;
	u32 result;
	u64 data[2];
};

struct {
	__uint(rights, NAAM_READ);
	__type(element, u64);
} others SEC(".maps");

SEC("naam/f") int f(struct m *message)
{
	u64 local[2] = {1, 2}, extra = 0;
	u64 *to = message->which & 1 ? local : message->data;
	u64 *maybe = message->which & 2 ? message->data + 1 : 0;
	const void *from = message->which & 4 ? (const void *)&others : (const void *)&words;

	naam_read(from, 8, &extra, 8);
	naam_read(from, extra, to, 16);
	if (maybe)
		*maybe = extra;
	message->result = to[0] + to[1];
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a check of a sum, whose parts are used after a UDMA call: contracts keep bounds of sums. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u16 first;
	u16 second;
	u32 reserved;
	u8 data[128];
};

SEC("naam/f") int f(struct m *message)
{
	u32 first = message->first, second = message->second;

	if (first + 8 > 100)
		return 1;
	naam_read(&words, 0, message->data, first + 8);
	first = message->first;
	if (first + second > 128)
		return 1;
	naam_read(&words, 0, message->data, first);
	naam_read(&words, 0, message->data + first, second); /* JUDGED: N301 */
	return 0;
}

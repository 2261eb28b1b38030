/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A bound in the message that a UDMA read overwrites after the check. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 count;
	u64 other;
	u64 data[8];
};

SEC("naam/f") int f(struct m *message)
{
	if (message->count > 7)
		return 1;
	naam_read(&words, 0, &message->count, 8);
	message->data[message->count] = 0; /* JUDGED: N301 */
	return 0;
}

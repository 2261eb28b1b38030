/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A spilled address that a UDMA read overwrites. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 data[2];
};

SEC("naam/f") int f(struct m *message)
{
	u64 *volatile spilled = message->data;
	u64 other = 0;

	naam_read(&words, other, (void *)&other, 8);
	*spilled = 1; /* JUDGED: N306 */
	return 0;
}

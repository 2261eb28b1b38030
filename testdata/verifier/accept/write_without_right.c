/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A write to a region that is declared for reading. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE);
	__type(element, u64);
} table SEC(".maps");

struct m {
	u64 data;
};

SEC("naam/f") int f(struct m *message)
{
	return naam_write(&table, 0, &message->data, 8); /* JUDGED: N308 */
}

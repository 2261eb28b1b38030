/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An atomic on a region that is declared for reading and writing. */
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
	return naam_compare_swap(&table, 0, 0, 1, &message->data); /* JUDGED: N308 */
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Bytes of the stack that no path writes, as the source of a UDMA write. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	u64 local[4];

	naam_copy(local, message, 8);
	return naam_write(&words, 0, local, 32); /* JUDGED: N304 */
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Bytes of the stack that no path writes. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 result;
};

SEC("naam/f") int f(struct m *message)
{
	u64 local[2];

	naam_read(&words, 0, local, 8);
	message->result = local[1]; /* JUDGED: N304 */
	return 0;
}

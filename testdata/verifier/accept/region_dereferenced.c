/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A region read without UDMA. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 data;
};

SEC("naam/f") int f(struct m *message)
{
	naam_read(&words, 0, &message->data, 8); /* JUDGED: N314 */
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A number as a region. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 region;
	u64 data;
};

SEC("naam/f") int f(struct m *message)
{
	const void *region = (const void *)&words;

	return naam_read(region, 0, &message->data, 8); /* JUDGED: N313 */
}

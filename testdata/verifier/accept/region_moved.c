/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Arithmetic on a region handle. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 offset;
	u64 data;
};

SEC("naam/f") int f(struct m *message)
{
	return naam_read((const char *)&words, message->offset, &message->data, 8); /* JUDGED: N313 */
}

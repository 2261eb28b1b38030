/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An address in a region. */
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
	u64 word = message->value;

	return naam_write(&words, 0, &word, 8); /* JUDGED: N305 */
}

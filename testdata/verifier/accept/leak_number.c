/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An address as the operand of an atomic. */
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
	u64 old;

	return naam_fetch_add(&words, 0, message->value, &old); /* JUDGED: N305 */
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A write to one of two regions, one of which is declared for reading only. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct {
	__uint(rights, NAAM_READ);
	__type(element, u64);
} table SEC(".maps");

struct m {
	u64 which;
};

SEC("naam/f") int f(struct m *message)
{
	return naam_write(message->which ? (void *)&table : (void *)&words, 0, message, 8); /* JUDGED: N308 */
}

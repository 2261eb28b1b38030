/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A loop that cannot end. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 turns;
	u64 other;
};

SEC("naam/f") int f(struct m *message)
{
	do {
		naam_fetch_add(&words, 0, 1, &message->turns);
	} while (message->turns < 100); /* JUDGED: N223 */
	return 0;
}

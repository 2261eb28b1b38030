/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A variable that keeps its value between messages. */
#include "naam.h"

const volatile u64 limit = 5;

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	return message->value > limit; /* JUDGED: N106 */
}

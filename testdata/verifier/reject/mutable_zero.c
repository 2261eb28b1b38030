/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A variable without an initial value. */
#include "naam.h"

static volatile u64 seen;

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	message->value = seen; /* JUDGED: N106 */
	return 0;
}

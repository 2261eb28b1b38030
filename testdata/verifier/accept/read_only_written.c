/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A copy into read-only data. */
#include "naam.h"

static const u8 table[16] = {1, 2, 3};

struct m {
	u8 data[16];
};

SEC("naam/f") int f(struct m *message)
{
	naam_copy(message->data, (void *)table, 16); /* JUDGED: N310 */
	return 0;
}

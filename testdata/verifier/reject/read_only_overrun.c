/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An index past a read-only table. */
#include "naam.h"

static const u8 table[16] = {1, 2, 3};

struct m {
	u32 index;
	u32 result;
};

SEC("naam/f") int f(struct m *message)
{
	message->result = table[naam_at_most(message->index, 16)]; /* JUDGED: N303 */
	return 0;
}

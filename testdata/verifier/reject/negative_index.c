/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A signed index that is checked from above only. */
#include "naam.h"

struct m {
	s32 index;
	u32 result;
	u32 data[16];
};

SEC("naam/f") int f(struct m *message)
{
	s32 index = message->index;

	if (index > 15)
		return 1;
	message->result = message->data[index]; /* JUDGED: N301 */
	return 0;
}

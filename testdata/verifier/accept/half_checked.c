/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A check of the low half of a 64-bit index. */
#include "naam.h"

struct m {
	u64 index;
	u64 data[8];
};

SEC("naam/f") int f(struct m *message)
{
	u64 index = message->index;

	if (index > 7)
		return 1;
	message->data[index] = 0; /* JUDGED: N301 */
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A loop that takes one turn too many. */
#include "naam.h"

struct m {
	u32 count;
	u32 result;
	u32 data[8];
};

SEC("naam/f") int f(struct m *message)
{
	u32 i, sum = 0;

	if (message->count > 8)
		return 1;
	for (i = 0; i < message->count; i++)
		sum += message->data[i]; /* JUDGED: N301 */
	message->result = sum;
	return 0;
}

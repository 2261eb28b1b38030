/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A spilled address of which one byte was changed. */
#include "naam.h"

struct m {
	u8 byte;
	u64 data[2];
};

SEC("naam/f") int f(struct m *message)
{
	u64 *volatile spilled = message->data;
	volatile u8 other[8];

	other[1] = 1;
	((volatile u8 *)&spilled)[0] = message->byte;
	*spilled = 1; /* JUDGED: N306 */
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function that is declared, but not here. */
#include "naam.h"

struct m {
	u32 length;
	u8 data[64];
};

void *fill(void *to, int byte, unsigned long length);

SEC("naam/f") int f(struct m *message)
{
	fill(message->data, 0, naam_at_most(message->length, 64)); /* JUDGED: N107 */
	return 0;
}

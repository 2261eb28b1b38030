/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A signed byte as an index. */
#include "naam.h"

struct m {
	u8 index;
	u8 result;
	u8 data[128];
};

SEC("naam/f") int f(struct m *message)
{
	if (message->index > 100)
		return 1;
	message->result = message->data[message->index]; /* JUDGED: N301 */
	return 0;
}

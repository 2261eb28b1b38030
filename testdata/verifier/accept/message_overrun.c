/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An index one past the end of an array that ends the message. */
#include "naam.h"

struct m {
	u32 index;
	u32 result;
	u32 data[16];
};

SEC("naam/f") int f(struct m *message)
{
	if (message->index > 15)
		return 1;
	message->result = message->data[message->index]; /* JUDGED: N301 */
	return 0;
}

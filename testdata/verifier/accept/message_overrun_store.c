/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A store behind the message. */
#include "naam.h"

struct m {
	u64 index;
	u64 data[4];
};

SEC("naam/f") int f(struct m *message)
{
	u64 index = naam_at_most(message->index, 3);

	message->data[index] = 1; /* JUDGED: N301 */
	return 0;
}

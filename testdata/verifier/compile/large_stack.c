/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: more than 4,096 bytes of locals. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

SEC("naam/f") int f(struct m *message)
{
	u8 local[5000];

	naam_fill(local, 1, sizeof(local));
	return local[naam_at_most(message->b, 4999)];
}

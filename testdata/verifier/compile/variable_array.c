/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: an array of variable length. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

SEC("naam/f") int f(struct m *message)
{
	u8 local[message->a & 63];

	naam_fill(local, 1, message->a & 63);
	return local[message->b & 7];
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: memcpy of variable length. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

SEC("naam/f") int f(struct m *message)
{
	__builtin_memcpy(message, &message->b, message->a & 7);
	return 0;
}

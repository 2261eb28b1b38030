/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DOES NOT COMPILE: signed division, which needs v4. */
#include "naam.h"

struct m {
	u64 a;
	u64 b;
	u64 c;
};

SEC("naam/f") int f(struct m *message)
{
	message->a = (s64)message->a / (s64)message->b;
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An address that was multiplied. */
#include "naam.h"

struct m {
	u64 data[2];
};

SEC("naam/f") int f(struct m *message)
{
	u64 at = (u64)message;

	asm volatile("%0 += 8" : "+r"(at));
	message->data[0] = *(u64 *)at; /* JUDGED: N306 */
	return 0;
}

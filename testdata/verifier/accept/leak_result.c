/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An address as the result. */
#include "naam.h"

struct m {
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	naam_reply(0);
	return (u64)message->value; /* JUDGED: N305 */
}

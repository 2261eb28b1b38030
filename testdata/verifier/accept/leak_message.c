/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An address in the message. */
#include "naam.h"

struct m {
	u64 value;
	u64 result;
};

SEC("naam/f") int f(struct m *message)
{
	message->result = (u64)message->value; /* JUDGED: N305 */
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A spilled address that a copy takes to the message. */
#include "naam.h"

struct m {
	u64 value;
	u64 result[2];
};

SEC("naam/f") int f(struct m *message)
{
	u64 local[2] = {message->value, (u64)message};

	naam_copy(message->result, local, 16); /* JUDGED: N305 */
	return 0;
}

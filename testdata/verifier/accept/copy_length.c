/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A local copy longer than its source. */
#include "naam.h"

struct m {
	u32 length;
	u8 from[60];
	u8 to[60];
};

SEC("naam/f") int f(struct m *message)
{
	naam_copy(message->from, message->to, naam_at_most(message->length, 60)); /* JUDGED: N301 */
	return 0;
}

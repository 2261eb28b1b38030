/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A reply longer than the message. */
#include "naam.h"

struct m {
	u32 length;
	u8 data[60];
};

SEC("naam/f") int f(struct m *message)
{
	naam_reply(naam_at_most(message->length, sizeof(*message))); /* JUDGED: N312 */
	return 0;
}

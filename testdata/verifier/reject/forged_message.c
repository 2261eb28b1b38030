/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A number from the message as an address. */
#include "naam.h"

struct m {
	u64 address;
	u64 data;
};

SEC("naam/f") int f(struct m *message)
{
	u64 *at = (u64 *)message->address;

	message->data = *at; /* JUDGED: N306 */
	return 0;
}

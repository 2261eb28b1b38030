/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: copies of constant length become moves. */
#include "naam.h"

struct m {
	u8 from[37];
	u8 to[37];
	u16 pairs[9];
	u16 others[9];
};

SEC("naam/f") int f(struct m *message)
{
	__builtin_memcpy(message->to, message->from, sizeof(message->to));
	__builtin_memcpy(message->others, message->pairs, sizeof(message->others));
	__builtin_memset(message->from, 0, 8);
	return 0;
}

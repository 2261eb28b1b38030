/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: tables, strings and the table that counts trailing zeros at v3; a load knows all values of its table. */
#include "naam.h"

struct m {
	u64 bits;
	u32 index;
	u32 result;
	u8 name[8];
	u32 data[64];
};

static const u8 offsets[8] = {0, 9, 18, 27, 36, 45, 54, 63};

SEC("naam/f") int f(struct m *message)
{
	const char *name = message->index & 8 ? "left" : "other";

	if (!message->bits)
		return 1;
	message->name[0] = name[message->index & 3];
	message->result = message->data[offsets[message->index & 7]] + message->data[__builtin_ctzll(message->bits) & 63];
	return 0;
}

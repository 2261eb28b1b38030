/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* REJECT N109: an address inside read-only data. */
#include "naam.h"

struct m {
	u32 index;
	u32 result;
};

static const u8 first[4] = {1, 2, 3, 4}, second[4] = {5, 6, 7, 8};
static const u8 *const tables[2] = {first, second};

SEC("naam/f") int f(struct m *message)
{
	message->result = tables[message->index & 1][message->index >> 1 & 3];
	return 0;
}

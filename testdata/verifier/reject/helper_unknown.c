/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A helper that does not exist. */
#include "naam.h"

static u32 (*const ask)(void) = (u32(*)(void))99;

struct m {
	u32 result;
};

SEC("naam/f") int f(struct m *message)
{
	return ask(); /* JUDGED: N225 */
}

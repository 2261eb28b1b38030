/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A BPF atomic through a number. */
#include "naam.h"

struct m {
	u64 at;
	u64 value;
};

SEC("naam/f") int f(struct m *message)
{
	u64 *at = (u64 *)message->at;

	__sync_fetch_and_add(at, 1); /* JUDGED: N306 */
	return 0;
}

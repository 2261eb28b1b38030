/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A pointer that may be null. */
#include "naam.h"

struct m {
	u32 kind;
	u32 result;
	u32 data[2];
};

SEC("naam/f") int f(struct m *message)
{
	u32 *volatile chosen = message->kind ? message->data : 0;

	message->result = *chosen; /* JUDGED: N307 */
	return 0;
}
